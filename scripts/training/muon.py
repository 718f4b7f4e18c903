"""Muon (Jordan et al. 2024): momentum whose matrix updates are made orthogonal."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def orthogonalize(update: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix by a quintic Newton-Schulz iteration, in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(update.dtype)


class Muon(torch.optim.Optimizer):
    """For the hidden matrices only; everything else belongs to AdamW."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                self._step_one(matrix, group["lr"], group["momentum"])

    def _step_one(self, matrix: Tensor, lr: float, momentum: float) -> None:
        gradient = matrix.grad
        if gradient is None:
            return
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        average = state["momentum"].lerp_(gradient, 1 - momentum)
        update = orthogonalize(gradient.lerp(average, momentum))
        scale = max(1, matrix.shape[0] / matrix.shape[1]) ** 0.5
        matrix.mul_(1 - 0.01 * lr).add_(update, alpha=-lr * scale)
