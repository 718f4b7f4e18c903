"""The masked-token transformer: fills masked cells of a picture, conditioned on a prompt.

Every cell has `channels` codes; each code has its own small softmax, so the head is tiny and the
expected code is exact. The prompt enters three ways, all nearly free beside the cells: as extra
keys and values in each layer, as its mean by adaLN-single (PixArt, arXiv 2310.00426), and as a
sketch, a first guess of every cell that a small MLP makes of that mean.

Mixed precision: `multiply_in` has the large products done in bfloat16. What is added up over the
layers, norms, softmaxes and the head stay float32, which is both truer and faster: a CPU has
instructions for bfloat16 products, and none for sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TransformerConfig:
    """cells: tokens of a picture. text_length: prompt tokens read; shorter prompts are padded
    with zeros, and all zeros means "no prompt" (what guidance compares with). trunk: width of the
    MLP over the prompt's mean. sketch: numbers a cell that it draws."""

    cells: int = 64
    channels: int = 10
    levels: int = 5
    width: int = 256
    layers: int = 6
    heads: int = 4
    text_width: int = 384
    text_length: int = 16
    trunk: int = 512
    sketch: int = 24


VECTOR_ROWS = 8
"""Rows of a block in `_vectors`: four renders, each with and without its prompt."""


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without weights."""
    return F.rms_norm(x, (x.shape[-1],))


def product(layer: nn.Linear, x: Tensor) -> Tensor:
    """In the dtype of its weights."""
    return F.linear(x.to(layer.weight.dtype), layer.weight, layer.bias)


class Layer(nn.Module):
    """Attention over cells and text, then a ReLU^2 MLP; both modulated by the conditioning."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.text_kv = nn.Linear(config.text_width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.modulation = nn.Parameter(torch.zeros(6, width))
        self.temperature = nn.Parameter(torch.full((config.heads, 1, 1), 4.0))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def _split(self, x: Tensor) -> Tensor:
        """[B, S, n * W] -> [B, S, n * heads, W / heads]"""
        return x.reshape(*x.shape[:2], -1, self.out.in_features // self.heads)

    def project(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """text [B, S, text_width] -> keys and values, each [B, heads, S, W / heads]."""
        k, v = self._split(product(self.text_kv, text)).transpose(1, 2).chunk(2, dim=1)
        return norm(k.float()).to(v.dtype), v

    def _attend(self, x: Tensor, text_k: Tensor, text_v: Tensor) -> Tensor:
        qkv = self._split(product(self.qkv, x)).transpose(1, 2)
        dtype, heads = qkv.dtype, self.heads
        q, k = norm(qkv[:, : 2 * heads].float()).chunk(2, dim=1)
        q = (q * (self.temperature * q.shape[3] ** -0.5)).to(dtype)
        k = torch.cat((text_k, k.to(dtype)), dim=2)
        v = torch.cat((text_v, qkv[:, 2 * heads :]), dim=2)
        # bmm by hand: on a CPU, fused attention builds a primitive per head and call.
        mixed = (q @ k.transpose(2, 3)).float().softmax(dim=3).to(dtype) @ v
        return product(self.out, mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, text: tuple[Tensor, Tensor], conditioning: Tensor) -> Tensor:
        """x [B, cells, W], text as `project` gives it, conditioning [B, 6, W]."""
        modulation = (conditioning + self.modulation).unsqueeze(2)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.to(x.dtype).unbind(1)
        mixed = self._attend(torch.addcmul(shift1, norm(x), 1 + scale1), *text)
        x = torch.addcmul(x, mixed.to(x.dtype), 1 + gate1)
        hidden = product(self.up, torch.addcmul(shift2, norm(x), 1 + scale2))
        hidden = F.relu(hidden, inplace=True).square()
        return torch.addcmul(x, product(self.down, hidden).to(x.dtype), 1 + gate2)


@dataclass(frozen=True, slots=True)
class Prompts:
    """What the network reads from prompts, the same in every pass.

    pooled: float32 [B, trunk]. layers: keys and values of each layer, [B, heads, S, W / heads]."""

    pooled: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...]

    @classmethod
    def together(cls, parts: Sequence[Prompts]) -> Prompts:
        """The rows of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        pairs = zip(*(part.layers for part in parts), strict=True)
        layers = tuple(
            (torch.cat([k for k, _ in layer]), torch.cat([v for _, v in layer])) for layer in pairs
        )
        return cls(torch.cat([part.pooled for part in parts]), layers)


class MaskedTransformer(nn.Module):
    """Known latents and a mask -> logits of every code of every cell."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Linear(config.channels, width)
        self.mask_embedding = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.randn(config.cells, width) * 0.5)
        self.pooled_in = nn.Linear(config.text_width, config.trunk)
        self.ratio_in = nn.Linear(8, config.trunk)
        self.trunk = nn.Linear(config.trunk, config.trunk)
        self.modulate = nn.Linear(config.trunk, 6 * width)
        self.sketch = nn.Linear(config.trunk, config.cells * config.sketch)
        self.sketch_in = nn.Linear(config.sketch, width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.head = nn.Linear(width, config.channels * config.levels)
        for zeroed in (self.modulate, self.head):
            nn.init.zeros_(zeroed.weight)
            nn.init.zeros_(zeroed.bias)

    def multiply_in(self, dtype: torch.dtype) -> None:
        """The products of the layers and of what conditions them; nothing else changes."""
        for module in (self.trunk, self.modulate, self.sketch, *self.layers.modules()):
            if isinstance(module, nn.Linear):
                module.to(dtype)

    def forward(self, latents: Tensor, masked: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        """As `fill`, for prompts met for the first time: text [B, S, text_width], pooled
        [B, text_width]."""
        return self.fill(latents, masked, self.project(text, pooled))

    def project(self, text: Tensor, pooled: Tensor) -> Prompts:
        """text [B, S, text_width], pooled [B, text_width]; done once for all passes."""
        text = norm(text)
        layers = tuple(cast(Layer, layer).project(text) for layer in self.layers)
        return Prompts(self.pooled_in(norm(pooled)), layers)

    def fill(self, latents: Tensor, masked: Tensor, prompts: Prompts) -> Tensor:
        """latents [B, cells, channels] in [-1, 1] (any value where masked), masked bool
        [B, cells] -> logits [B, cells, channels, levels]."""
        hidden = masked.unsqueeze(2)
        modulation, sketch = self._vectors(masked, prompts.pooled)
        x = torch.where(hidden, self.mask_embedding, self.embed(latents))
        x = x + self.position + self.sketch_in(sketch)
        for layer, text in zip(self.layers, prompts.layers, strict=True):
            x = layer(x, text, modulation)
        logits = cast(Tensor, self.head(norm(x)))
        return logits.view(*logits.shape[:2], self.config.channels, self.config.levels)

    def _vectors(self, masked: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Modulation [B, 6, W] and sketch [B, cells, sketch], from the prompt and the share of
        masked cells. In blocks of one height: math libraries multiply a few rows in another order
        than many, and a row would change in its last bits with the number of its neighbours."""
        if self.training or len(masked) == VECTOR_ROWS:
            return self._vectors_of(masked, pooled)
        blocks = []
        for start in range(0, len(masked), VECTOR_ROWS):
            rows = slice(start, start + VECTOR_ROWS)
            short = VECTOR_ROWS - len(masked[rows])
            padded = F.pad(masked[rows], (0, 0, 0, short)), F.pad(pooled[rows], (0, 0, 0, short))
            blocks.append(self._vectors_of(*padded))
        modulation, sketch = (torch.cat(part)[: len(masked)] for part in zip(*blocks, strict=True))
        return modulation, sketch

    def _vectors_of(self, masked: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        ratio = masked.float().mean(dim=1, keepdim=True)
        waves = torch.arange(1, 9, device=ratio.device) * (torch.pi / 2)
        vector = F.silu(pooled + self.ratio_in(torch.cos(ratio * waves)))
        vector = vector + F.silu(product(self.trunk, vector).float())
        modulation = product(self.modulate, vector).float().view(len(vector), 6, -1)
        sketch = product(self.sketch, vector).float()
        return modulation, sketch.view(len(vector), self.config.cells, -1)
