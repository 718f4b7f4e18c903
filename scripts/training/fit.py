"""The training loop that both networks share: a time budget, progress, resumable checkpoints.

The learning rate depends on the share of the budget that is used, so that a run that was stopped
and resumed ends like one that was not.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

CHECKPOINT_EVERY_SECONDS = 120
REPORT_EVERY_SECONDS = 10


def learning_rate_share(progress: float, step: int) -> float:
    """Warm up over 100 steps, hold, then fall in a straight line over the last 40 %."""
    return min(1.0, (step + 1) / 100, max(0.02, (1 - progress) / 0.4))


class Fit:
    """Owns a module's weights, its moving average and its optimizers during training."""

    def __init__(
        self, module: nn.Module, optimizers: Sequence[Optimizer], path: Path, decay: float
    ) -> None:
        self.module, self.optimizers, self.path, self.decay = module, optimizers, path, decay
        self.average = copy.deepcopy(module).eval().requires_grad_(False)
        self.rates = [[group["lr"] for group in o.param_groups] for o in optimizers]
        self.step, self.elapsed = 0, 0.0
        if path.exists():
            self._load(torch.load(path, weights_only=True))

    def _load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.average.load_state_dict(state["average"])
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        self.step, self.elapsed = state["step"], state["elapsed"]
        print(f"{self.path.stem}: resumed at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint beside the old one, then swap."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        state = {
            "module": self.module.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, part)
        part.replace(self.path)

    def run(self, loss_of: Callable[[int], Tensor], batch: int, seconds: float) -> None:
        """Train until `seconds` in all (over every resumption) are used."""
        if self.elapsed < seconds:
            self._one(loss_of, self.elapsed / seconds)  # compiles; not counted
        started, base = time.monotonic(), self.elapsed
        reported = saved = started
        recent: list[float] = []
        while self.elapsed < seconds:
            recent.append(self._one(loss_of, self.elapsed / seconds))
            now = time.monotonic()
            self.elapsed = base + now - started
            if now - reported > REPORT_EVERY_SECONDS:
                speed = len(recent) * batch / (now - reported)
                print(
                    f"{self.path.stem}: step {self.step} loss {sum(recent) / len(recent):.4f} "
                    f"{speed:.0f} img/s, {(seconds - self.elapsed) / 60:.1f} min left",
                    flush=True,
                )
                recent, reported = [], now
            if now - saved > CHECKPOINT_EVERY_SECONDS:
                self.save()
                saved = now
        self.save()

    def _one(self, loss_of: Callable[[int], Tensor], progress: float) -> float:
        share = learning_rate_share(progress, self.step)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.step)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._update_average()
        return loss.item()

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.decay, (1 + self.step) / (20 + self.step))
        pairs = zip(self.average.parameters(), self.module.parameters(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, 1 - decay)
