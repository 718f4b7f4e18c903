"""How masked cells get filled, as pure functions; nothing here holds state or knows a network.

What a pass draws depends on its own logits, seed and pass number alone, never on other rows.
Rule: MaskGIT (Chang et al. 2022, arXiv 2202.04200), with factorized codes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAMPLER = "confidence-2"
"""Part of a checkpoint's model identity: change it when a seed would draw something else."""
TEMPERATURE = 0.4
"""Of the code softmaxes."""
PREVIEW_SOFTNESS = 6.0
"""How many times softer, beyond 1, the softmax of a wholly masked picture's preview is."""
NOISE = 2.0
"""How much chance, at first, decides which cells stay; falls to zero with the last pass."""


def cells_masked_after(pass_no: int, passes: int, cells: int) -> int:
    """How many cells are still masked after `pass_no` of `passes`: a cosine, all at 0, none at
    the end, and while cells last at least one is filled in every pass."""
    share = math.cos(math.pi / 2 * pass_no / passes)
    most = max(0, cells - pass_no)
    return 0 if pass_no >= passes else min(math.floor(cells * share), most)


def pass_noise(
    seed: int, pass_no: int, cells: int, channels: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Uniform numbers in [0, 1) for codes [cells, channels] and for confidence [cells].
    Counter based (Philox), keyed by (seed, pass): the same on every machine and after a restore."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, pass_no], np.uint64)))
    codes = random.random((cells, channels), dtype=np.float32)
    return codes, random.random(cells, dtype=np.float32)


def draw_codes(logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One code per channel by inverse CDF, and each cell's summed log-probability.

    logits [cells, channels, levels], uniform [cells, channels] -> codes int64 [cells, channels],
    confidence [cells]."""
    log_probs = (logits / TEMPERATURE).log_softmax(dim=-1)
    below = log_probs.exp().cumsum(dim=-1) <= uniform.unsqueeze(-1)
    codes = below.sum(dim=-1).clamp(max=logits.shape[-1] - 1)
    return codes, log_probs.gather(-1, codes.unsqueeze(-1)).squeeze(-1).sum(dim=-1)


def most_confident(
    confidence: Tensor, masked: Tensor, uniform: Tensor, keep_masked: int, progress: float
) -> Tensor:
    """Which of the masked cells are filled in now, bool [cells]; `keep_masked` stay hidden.

    uniform [cells] adds Gumbel noise that falls with `progress` (0..1). Ties go to the first cell.
    """
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-6, 1 - 1e-6)))
    score = confidence + NOISE * (1 - progress) * gumbel
    score = score.masked_fill(~masked, -math.inf)
    count = int(masked.sum()) - keep_masked
    chosen = torch.zeros_like(masked)
    chosen[score.argsort(descending=True, stable=True)[: max(0, count)]] = True
    return chosen


def expected_codes(logits: Tensor, masked_share: float) -> Tensor:
    """Mean code of every channel, float [cells, channels]: the blurry picture of what is masked.

    The softmax is as much softer as more of the picture is masked (0..1): what may still change is
    shown as unsure, so that previews go from blurry to clear."""
    levels = torch.arange(logits.shape[-1], dtype=logits.dtype)
    softened = logits / (1 + PREVIEW_SOFTNESS * masked_share)
    return (softened.softmax(dim=-1) * levels).sum(dim=-1)
