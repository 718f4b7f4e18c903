"""The network that enlarges pictures of one size, as it is trained; engine/enlarger.py draws with
its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.codec import Residual


@dataclass(frozen=True)
class EnlargerConfig:
    """side: of the pictures that it takes, in pixels. factor: by which they grow. width: channels,
    at half their side. blocks: residual blocks."""

    side: int = 128
    factor: int = 4
    width: int = 48
    blocks: int = 4


class EnlargerNet(nn.Module):
    """Pictures [B, 3, H, W] in [-1, 1] -> what is to be added to their enlargement by Lanczos,
    [B, 3, factor * H, factor * W]; nothing, before it is trained."""

    def __init__(self, config: EnlargerConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Conv2d(12, config.width, 3, padding=1)
        self.body = nn.Sequential(*(Residual(config.width) for _ in range(config.blocks)))
        self.tail = nn.Conv2d(config.width, 3 * (2 * config.factor) ** 2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(cast(Tensor, self.tail.bias))

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.body(self.head(F.pixel_unshuffle(pictures, 2)))
        return F.pixel_shuffle(self.tail(F.relu(x)), 2 * self.config.factor)
