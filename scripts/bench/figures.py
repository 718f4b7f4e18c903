"""From raw measurements to the keys of the bench. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.bench.measure import Saturation
from scripts.load import percentile

BATCHING = ("litserve", "serve_batch")
"""Plain static batches: everybody waits for the longest row, as padded text generation does."""
LEAVING = "litserve_rows_leave"
"""A static batch by somebody who knows this model: finished rows leave the tensors at once."""
LOCK = "fastapi_lock"
OURS = "ours"
UTILISATION = 0.8

GOALS: dict[str, tuple[str, float]] = {
    "stack_over_engine": (">=", 0.88),
    "images_per_s_over_batching_rivals": (">=", 1.05),
    "p99_over_batching_rivals": ("<=", 0.9),
    "images_per_s_over_fastapi_lock": (">=", 1.8),
    "p99_over_fastapi_lock": ("<=", 1.5),
    "company_cpu_s_per_picture": ("<=", 0.08),
    "first_preview_fraction": ("<=", 0.3),
    "idle_pss_bytes": ("<=", 3e9),
}


@dataclass(slots=True)
class SideFigures:
    """What one side did in every repeat. latencies: of all repeats together, at `rate`."""

    saturations: list[Saturation] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    rate: float = 0.0

    @property
    def images_per_s(self) -> float:
        """The median of the repeats."""
        return statistics.median(s.images_per_s for s in self.saturations)

    def p(self, q: float) -> float:
        return percentile(self.latencies, q)

    def summary(self) -> dict[str, Any]:
        rates = [s.images_per_s for s in self.saturations]
        cpu = [s.cpu_seconds_per_image for s in self.saturations]
        generator = [s.generator_cpu_seconds_per_image for s in self.saturations]
        return {
            "images_per_s": round(self.images_per_s, 3),
            "images_per_s_of_repeats": [round(rate, 3) for rate in rates],
            "cpu_seconds_per_image": round(statistics.median(cpu), 4),
            "generator_cpu_seconds_per_image": round(statistics.median(generator), 4),
            "poisson_rate": round(self.rate, 3),
            "poisson_requests": len(self.latencies),
            "p50_seconds": round(self.p(50), 3),
            "p95_seconds": round(self.p(95), 3),
            "p99_seconds": round(self.p(99), 3),
        }


def steady_rate(finished: list[float]) -> float:
    """Pictures a second between the first and the last tenth, neither filling nor emptying."""
    times = sorted(finished)
    edge = max(1, len(times) // 10)
    inner = times[edge - 1 : len(times) - edge]
    return (len(inner) - 1) / (inner[-1] - inner[0])


def poisson_rate(own: float, ours: float) -> float:
    """Everybody gets our arrivals, at 0.8 of our capacity; who could not keep up gets 0.8 of
    their own, which is the easier load."""
    return UTILISATION * min(own, ours)


def ratios(sides: Mapping[str, SideFigures], engine_images_per_s: float) -> dict[str, float]:
    """Ours over the rivals; of the batching ones the better in each figure."""
    mine = sides[OURS]
    batching = [sides[name] for name in BATCHING if name in sides]
    found = {"stack_over_engine": mine.images_per_s / engine_images_per_s}
    if batching:
        best_rate = max(side.images_per_s for side in batching)
        best_p99 = min(side.p(99) for side in batching)
        found["images_per_s_over_batching_rivals"] = mine.images_per_s / best_rate
        found["p99_over_batching_rivals"] = mine.p(99) / best_p99
    if LEAVING in sides:
        found["images_per_s_over_rows_leave"] = mine.images_per_s / sides[LEAVING].images_per_s
        found["p99_over_rows_leave"] = mine.p(99) / sides[LEAVING].p(99)
    if LOCK in sides:
        found["images_per_s_over_fastapi_lock"] = mine.images_per_s / sides[LOCK].images_per_s
        found["p99_over_fastapi_lock"] = mine.p(99) / sides[LOCK].p(99)
    return found


def rotated(names: Sequence[str], repeat: int) -> list[str]:
    """Another side goes first in each repeat, so that a drifting machine favours nobody."""
    turn = repeat % len(names)
    return [*names[turn:], *names[:turn]]
