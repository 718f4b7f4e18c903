"""What images cost in GPU-seconds, as decoders measured it, and what the next one will cost. Pure.

A kind of image is its model, size and passes. Dispatchers note what renders cost, the ledger keeps
an average of the newest for each kind, and gateways predict by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from jobs.request import ImageRequest

SMOOTHING = 0.1
"""How much one more render moves the average of its kind."""
BELIEVED = 20.0
"""How many times off the configured prior a learned cost may be, both ways."""
KINDS_READ = 500

Kind = tuple[str, int, int]
"""Model, pixels (width times height, of a picture that is looked at too), passes."""


@dataclass(frozen=True, slots=True)
class ImageCost:
    """GPU-seconds of one image of a kind, on average over `renders`. pixels: width times height."""

    model: str
    pixels: int
    passes: int
    seconds: float
    renders: int

    @property
    def kind(self) -> Kind:
        """What it says is of these alone."""
        return self.model, self.pixels, self.passes

    def row(self) -> dict[str, object]:
        """As statements.LEARN takes it. weight: of all its renders, one after the other."""
        return {
            "model": self.model,
            "pixels": self.pixels,
            "passes": self.passes,
            "seconds": self.seconds,
            "renders": self.renders,
            "weight": 1 - (1 - SMOOTHING) ** self.renders,
        }


class CostNotes:
    """Measured costs that one dispatcher has not stored yet."""

    def __init__(self) -> None:
        self._noted: dict[Kind, list[float]] = {}

    def note(self, request: ImageRequest, seconds: float) -> None:
        """What an image of that request has cost; 0.0 for unknown."""
        if seconds > 0:
            self._noted.setdefault(kind_of(request), []).append(seconds)

    def take(self) -> list[ImageCost]:
        """The means by kind, and forget them."""
        noted, self._noted = self._noted, {}
        return [ImageCost(*kind, sum(s) / len(s), len(s)) for kind, s in noted.items()]


def kind_of(request: ImageRequest) -> Kind:
    """Of each of its images."""
    weight = 1 if request.source is None else request.source.pass_weight
    return request.model, request.width * request.height * weight, request.passes


def predicted_seconds(
    request: ImageRequest, learned: Mapping[Kind, ImageCost], prior: float
) -> float:
    """GPU-seconds of one image of the request: as learned of its kind; else, pass by pass, of the
    nearest kind of its model; else the prior. Never more than BELIEVED times off the prior, so that
    a freak measurement cannot overturn fairness."""
    model, pixels, passes = kind = kind_of(request)

    def apart(cost: ImageCost) -> tuple[float, float]:
        return abs(log(cost.pixels / pixels)), abs(log(cost.passes / passes))

    others = [] if kind in learned else [cost for cost in learned.values() if cost.model == model]
    nearest = learned.get(kind) or min(others, key=apart, default=None)
    if nearest is None:
        return prior
    seconds = nearest.seconds * passes / nearest.passes
    return min(max(seconds, prior / BELIEVED), prior * BELIEVED)
