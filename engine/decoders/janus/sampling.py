"""How image tokens are drawn, as pure functions. A token depends on its own logits, the seed and
its position alone, never on other rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SAMPLER = "inverse-cdf-1"
"""Part of a checkpoint's model identity: change it when a seed would draw something else."""


def drawn_after(pass_no: int, passes: int, cells: int) -> int:
    """How many of `cells` tokens are drawn after `pass_no` of `passes`: each pass draws its even
    share of what is left, rounded up."""
    share, extra = divmod(cells, passes)
    return share * pass_no + min(pass_no, extra)


def uniforms(seed: int, cells: int) -> NDArray[np.float32]:
    """One number in [0, 1) for every position, [cells]. Counter based (Philox): the same on every
    machine and after a restore."""
    random = np.random.Generator(np.random.Philox(key=np.array([seed, 0], np.uint64)))
    return random.random(cells, dtype=np.float32)


def draw_tokens(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """One token of each row, int64 [rows], by inverse CDF; the likeliest one at temperature 0.

    logits float32 [rows, codebook], uniform float32 [rows]."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    below = (logits / temperature).softmax(dim=-1).cumsum(dim=-1)
    # the sum of all is not quite 1.0
    wanted = uniform[:, None] * below[:, -1:]
    found = torch.searchsorted(below, wanted, right=True)[:, 0]
    return found.clamp(max=logits.shape[-1] - 1)
