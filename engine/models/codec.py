"""The picture tokenizer: a small conv net without norm layers and a finite scalar quantizer.

A picture becomes a grid of cells; each cell has `channels` small codes of `levels` values each.
Codes live on an ordered grid, so the mean of codes is a picture too: that is what makes a preview
blurry instead of noisy. FSQ: Mentzer et al. 2023, arXiv 2309.15505.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class CodecConfig:
    """size: picture side in pixels. widths: channels of the three stages, finest first.
    channels, levels: codes of a cell. *_blocks: residual blocks per stage. alpha: whether a fourth
    channel says how much each pixel belongs to a thing and not to the background."""

    size: int = 96
    patch: int = 3
    widths: tuple[int, int, int] = (48, 96, 192)
    channels: int = 10
    levels: int = 5
    encoder_blocks: int = 1
    decoder_blocks: int = 2
    alpha: bool = False

    @property
    def grid(self) -> int:
        """Cells along one side."""
        return self.size // (self.patch * 4)

    @property
    def planes(self) -> int:
        """Of a decoded picture."""
        return 4 if self.alpha else 3

    @property
    def cells(self) -> int:
        return self.grid * self.grid


def quantize(raw: Tensor, levels: int) -> Tensor:
    """Nearest level in [-1, 1] with straight-through gradient; `levels` is odd."""
    half = (levels - 1) / 2
    bounded = torch.tanh(raw) * half
    return (bounded + (bounded.round() - bounded).detach()) / half


def to_codes(latents: Tensor, levels: int) -> Tensor:
    """Latents in [-1, 1] on the level grid -> integer codes 0..levels-1, uint8."""
    half = (levels - 1) / 2
    return (latents * half + half).round().clamp(0, levels - 1).to(torch.uint8)


def to_latents(codes: Tensor, levels: int) -> Tensor:
    """Integer (or expected, fractional) codes -> latents in [-1, 1], float32."""
    half = (levels - 1) / 2
    return (codes.float() - half) / half


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))); the second conv starts at zero so depth is free at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(cast(Tensor, self.second.bias))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + y


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(width) for _ in range(blocks)))


class CodecEncoder(nn.Module):
    """Pictures [B, 3, size, size] in [-1, 1] -> unbounded latents [B, cells, channels]."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.net = nn.Sequential(
            nn.PixelUnshuffle(config.patch),
            nn.Conv2d(3 * config.patch**2, fine, 3, padding=1),
            _stage(fine, config.encoder_blocks),
            nn.Conv2d(fine, middle, 4, stride=2, padding=1),
            _stage(middle, config.encoder_blocks),
            nn.Conv2d(middle, coarse, 4, stride=2, padding=1),
            _stage(coarse, config.encoder_blocks),
            nn.ReLU(),
            nn.Conv2d(coarse, config.channels, 1),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return cast(Tensor, self.net(pictures)).flatten(2).transpose(1, 2)


class CodecDecoder(nn.Module):
    """Latents [B, cells, channels] in [-1, 1] -> pictures [B, planes, size, size], about [-1, 1];
    the alpha plane too: -1 is background."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.grid = config.grid
        self.net = nn.Sequential(
            nn.Conv2d(config.channels, coarse, 3, padding=1),
            _stage(coarse, config.decoder_blocks),
            nn.Conv2d(coarse, middle * 4, 1),
            nn.PixelShuffle(2),
            _stage(middle, config.decoder_blocks),
            nn.Conv2d(middle, fine * 4, 1),
            nn.PixelShuffle(2),
            _stage(fine, config.decoder_blocks),
            nn.ReLU(),
            nn.Conv2d(fine, config.planes * config.patch**2, 3, padding=1),
            nn.PixelShuffle(config.patch),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Computed in the dtype of the weights, float32 in the end."""
        grid = latents.transpose(1, 2).reshape(len(latents), -1, self.grid, self.grid)
        weight = cast(nn.Conv2d, self.net[0]).weight
        return cast(
            Tensor, self.net(grid.to(weight.dtype, memory_format=torch.channels_last))
        ).float()


class Codec(nn.Module):
    """Both halves; drawing needs only `decoder`, training and scoring also `encoder`."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = CodecEncoder(config)
        self.decoder = CodecDecoder(config)

    def forward(self, pictures: Tensor) -> Tensor:
        """Reconstruction through the quantizer, with gradients."""
        latents = quantize(self.encoder(pictures).float(), self.config.levels)
        return cast(Tensor, self.decoder(latents))

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures -> codes, uint8 [B, cells, channels]."""
        latents = quantize(self.encoder(pictures).float(), self.config.levels)
        return to_codes(latents, self.config.levels)
