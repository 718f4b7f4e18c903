"""The masked-token transformer: fills masked cells of a picture, conditioned on a layout.

Every cell has `channels` codes; each code has its own small softmax, so the head is tiny and the
expected code is exact. What the picture shows enters as a sketch: for every thing, the codes that
the model remembers of it (a row of its bank, retrieved by the prompt) are laid where the thing is
to stand, as it was remembered: in its own colours, unmirrored within a cell, on white. The network
recolours, mirrors, joins and puts it before its background. Retrieval for generation: Blattmann et
al. 2022, arXiv 2204.11824.

Mixed precision: `multiply_in` has the large products done in bfloat16. What is added up over the
layers, norms, softmaxes and the head stay float32, which is both truer and faster: a CPU has
instructions for bfloat16 products, and none for sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VECTOR_ROWS = 8
"""Rows of a block in `_modulation`: four renders, each told of its layout and of none."""


def norm(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without weights."""
    return F.rms_norm(x, (x.shape[-1],))


def product(layer: nn.Linear, x: Tensor) -> Tensor:
    """In the dtype of its weights."""
    return F.linear(x.to(layer.weight.dtype), layer.weight, layer.bias)


@dataclass(frozen=True)
class SceneConfig:
    """cells: tokens of a picture. channels, levels: codes of a cell. colours: that things and
    backgrounds may have. trunk: width of the MLP that modulates the layers. sketch: width of the
    one that reads a remembered cell."""

    cells: int = 64
    channels: int = 24
    levels: int = 5
    colours: int = 16
    width: int = 256
    layers: int = 6
    heads: int = 4
    trunk: int = 384
    sketch: int = 512


class SceneLayer(nn.Module):
    """Attention over cells, then a ReLU^2 MLP; both modulated by the conditioning."""

    def __init__(self, config: SceneConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.modulation = nn.Parameter(torch.zeros(6, width))
        self.temperature = nn.Parameter(torch.full((config.heads, 1, 1), 4.0))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def _attend(self, x: Tensor) -> Tensor:
        qkv, heads = product(self.qkv, x), self.heads
        split = qkv.reshape(*x.shape[:2], 3 * heads, -1).transpose(1, 2)
        q, k = norm(split[:, : 2 * heads].float()).chunk(2, dim=1)
        q = (q * (self.temperature * q.shape[3] ** -0.5)).to(qkv.dtype)
        # bmm by hand: on a CPU, fused attention builds a primitive per head and call.
        weights = (q @ k.to(qkv.dtype).transpose(2, 3)).float().softmax(dim=3).to(qkv.dtype)
        mixed = weights @ split[:, 2 * heads :]
        return product(self.out, mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        """x [B, cells, W], conditioning [B, 6, W]."""
        modulation = (conditioning + self.modulation).unsqueeze(2)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.to(x.dtype).unbind(1)
        mixed = self._attend(torch.addcmul(shift1, norm(x), 1 + scale1))
        x = torch.addcmul(x, mixed.to(x.dtype), 1 + gate1)
        hidden = product(self.up, torch.addcmul(shift2, norm(x), 1 + scale2))
        hidden = F.relu(hidden, inplace=True).square()
        return torch.addcmul(x, product(self.down, hidden).to(x.dtype), 1 + gate2)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the network is told of B pictures of up to T things. latents: float [B, T, cells,
    channels] in [-1, 1], each thing's remembered cells where they belong. there: bool [B, T,
    cells]: which cells a thing covers. colour: int64 [B, T], 0 for its own, else 1 + its row of the
    palette. flipped, large: int64 [B, T], 0 or 1. background: int64 [B], 1 + its row; 0 says that
    nothing is told, which is what guidance compares with."""

    latents: Tensor
    there: Tensor
    colour: Tensor
    flipped: Tensor
    large: Tensor
    background: Tensor

    def to(self, device: torch.device) -> Remembered:
        """On that device."""
        return Remembered(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Sketch:
    """What the network reads of layouts, the same in every pass. cells: float32 [B, cells, W].
    pooled: float32 [B, trunk]."""

    cells: Tensor
    pooled: Tensor

    @classmethod
    def together(cls, parts: Sequence[Sketch]) -> Sketch:
        """The rows of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(torch.cat([p.cells for p in parts]), torch.cat([p.pooled for p in parts]))


class SceneTransformer(nn.Module):
    """Known latents and a mask -> logits of every code of every cell."""

    def __init__(self, config: SceneConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Linear(config.channels, width)
        self.mask_embedding = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.randn(config.cells, width) * 0.5)
        self.remembered_in = nn.Linear(config.channels, config.sketch)
        self.colour_in = nn.Embedding(config.colours + 1, config.sketch)
        self.flipped_in = nn.Embedding(2, config.sketch)
        self.large_in = nn.Embedding(2, config.sketch)
        self.remembered_mix = nn.Linear(config.sketch, config.sketch)
        self.remembered_out = nn.Linear(config.sketch, width)
        self.background_in = nn.Embedding(config.colours + 1, width)
        self.background_pooled = nn.Embedding(config.colours + 1, config.trunk)
        self.ratio_in = nn.Linear(8, config.trunk)
        self.trunk = nn.Linear(config.trunk, config.trunk)
        self.modulate = nn.Linear(config.trunk, 6 * width)
        self.layers = nn.ModuleList(SceneLayer(config) for _ in range(config.layers))
        self.head = nn.Linear(width, config.channels * config.levels)
        for zeroed in (self.modulate, self.head):
            nn.init.zeros_(zeroed.weight)
            nn.init.zeros_(zeroed.bias)

    def multiply_in(self, dtype: torch.dtype) -> None:
        """The products of the layers and of what conditions them; nothing else changes."""
        for module in (self.trunk, self.modulate, *self.layers.modules()):
            if isinstance(module, nn.Linear):
                module.to(dtype)

    def forward(self, latents: Tensor, masked: Tensor, told: Remembered) -> Tensor:
        """As `fill`, for layouts met for the first time."""
        return self.fill(latents, masked, self.sketch(told))

    def sketch(self, told: Remembered) -> Sketch:
        """Done once for all passes."""
        marks = self.colour_in(told.colour) + self.flipped_in(told.flipped)
        marks = (marks + self.large_in(told.large)).unsqueeze(2)
        read = F.relu(self.remembered_in(told.latents) + marks)
        read = F.relu(self.remembered_mix(read)) * told.there.unsqueeze(3)
        cells = self.remembered_out(read.sum(dim=1))
        cells = cells + self.background_in(told.background).unsqueeze(1)
        return Sketch(cells.float(), self.background_pooled(told.background))

    def fill(self, latents: Tensor, masked: Tensor, sketch: Sketch) -> Tensor:
        """latents [B, cells, channels] in [-1, 1] (any value where masked), masked bool
        [B, cells] -> logits [B, cells, channels, levels]."""
        modulation = self._modulation(masked, sketch.pooled)
        x = torch.where(masked.unsqueeze(2), self.mask_embedding, self.embed(latents))
        x = x + self.position + sketch.cells
        for layer in self.layers:
            x = layer(x, modulation)
        logits = cast(Tensor, self.head(norm(x)))
        return logits.view(*logits.shape[:2], self.config.channels, self.config.levels)

    def _modulation(self, masked: Tensor, pooled: Tensor) -> Tensor:
        """[B, 6, W], from the layout and the share of masked cells. In blocks of one height: math
        libraries multiply a few rows in another order than many, and a row would change in its last
        bits with the number of its neighbours."""
        if self.training or len(masked) == VECTOR_ROWS:
            return self._modulation_of(masked, pooled)
        blocks = []
        for start in range(0, len(masked), VECTOR_ROWS):
            rows = slice(start, start + VECTOR_ROWS)
            short = VECTOR_ROWS - len(masked[rows])
            padded = F.pad(masked[rows], (0, 0, 0, short)), F.pad(pooled[rows], (0, 0, 0, short))
            blocks.append(self._modulation_of(*padded))
        return torch.cat(blocks)[: len(masked)]

    def _modulation_of(self, masked: Tensor, pooled: Tensor) -> Tensor:
        ratio = masked.float().mean(dim=1, keepdim=True)
        waves = torch.arange(1, 9, device=ratio.device) * (torch.pi / 2)
        vector = F.silu(pooled + self.ratio_in(torch.cos(ratio * waves)))
        vector = vector + F.silu(product(self.trunk, vector).float())
        return product(self.modulate, vector).float().view(len(vector), 6, -1)
