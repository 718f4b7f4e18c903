"""What training minimises: picture differences for the codec, code cross-entropy for the rest."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def picture_loss(drawn: Tensor, wanted: Tensor) -> Tensor:
    """L1 + MSE + L1 of gradients at three scales, pictures [B, 3, H, W] in [-1, 1].
    The gradient terms keep edges sharp without a pretrained perceptual network."""
    total = F.l1_loss(drawn, wanted) + F.mse_loss(drawn, wanted)
    for _ in range(3):
        for axis in (2, 3):
            total = total + 0.5 * (drawn.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
        drawn, wanted = F.avg_pool2d(drawn, 2), F.avg_pool2d(wanted, 2)
    return total


def draw_masks(batch: int, cells: int, generator: torch.Generator, power: float = 1.6) -> Tensor:
    """Which cells are hidden, bool [batch, cells]: cosine law with the share biased upward, where
    only the prompt can tell; every eighth picture is hidden whole."""
    spread = torch.rand(batch, 1, generator=generator).pow(power)
    share = torch.cos(spread * (math.pi / 2)).clamp(min=1 / cells)
    share[::8] = 1
    ranks = torch.rand(batch, cells, generator=generator).argsort(dim=1).argsort(dim=1)
    return ranks < (share * cells).ceil()


def masked_cross_entropy(logits: Tensor, codes: Tensor, masked: Tensor) -> Tensor:
    """Mean nats per code over hidden cells. logits [B, N, C, L], codes [B, N, C]."""
    losses = F.cross_entropy(logits.flatten(0, 2).float(), codes.flatten().long(), reduction="none")
    per_cell = losses.unflatten(0, tuple(codes.shape)).mean(dim=2)
    return (per_cell * masked).sum() / masked.sum()
