"""From raw measurements to the keys of the bench. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scripts.load import percentile

GOALS: dict[str, tuple[str, float]] = {
    "images_per_s_over_best_rival": (">=", 1.3),
    "p99_over_best_rival": ("<=", 0.6),
    "paid_p99_over_best_rival": ("<=", 0.1),
    "stack_over_engine": (">=", 0.96),
}


@dataclass(slots=True)
class SideFigures:
    """What one side did. latencies: of Poisson arrivals. paid: of paid requests in the flood; both
    empty where it was not asked."""

    images_per_s: float = 0.0
    latencies: list[float] = field(default_factory=list)
    paid: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Rounded, ready for JSON."""
        found: dict[str, Any] = {"images_per_s": round(self.images_per_s, 3)}
        for name, values in (("poisson", self.latencies), ("paid", self.paid)):
            if values:
                found[f"{name}_requests"] = len(values)
                found |= {f"{name}_p{q}_seconds": round(percentile(values, q), 2) for q in (50, 99)}
        return found


def best_rival(rivals: Mapping[str, SideFigures]) -> tuple[str, float]:
    """The fastest one, and its images/s."""
    name = max(rivals, key=lambda one: rivals[one].images_per_s)
    return name, rivals[name].images_per_s


def ratios(
    ours: SideFigures, rivals: Mapping[str, SideFigures], engine_images_per_s: float | None
) -> dict[str, float]:
    """Ours over the rivals, in each figure over whichever is best there."""
    found = {"images_per_s_over_best_rival": ours.images_per_s / best_rival(rivals)[1]}
    for key, side in (("p99_over_best_rival", "latencies"), ("paid_p99_over_best_rival", "paid")):
        theirs = [percentile(getattr(r, side), 99) for r in rivals.values() if getattr(r, side)]
        if theirs and getattr(ours, side):
            found[key] = percentile(getattr(ours, side), 99) / min(theirs)
    if engine_images_per_s is not None:
        found["stack_over_engine"] = ours.images_per_s / engine_images_per_s
    return found


def worst(cases: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Of every key its worst case."""
    pick = {">=": min, "<=": max}
    return {
        key: pick[sign](found[key] for found in cases.values() if key in found)
        for key, (sign, _) in GOALS.items()
        if any(key in found for found in cases.values())
    }
