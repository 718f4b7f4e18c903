"""How fast a cost grows: the exponent of a power of n, over the last two decades measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from statistics import median

DECADES = 100


class Kind(StrEnum):
    """What a row's figure is of."""

    OPERATION = "operation"
    """One call, however many others there are: 0 is constant, and 1 would be a queue that gets
    slower with every job in it."""
    TOTAL = "total"
    """All n of them together, as memory and disk: 1 is a constant share for each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One cost at growing sizes. samples: of each size, every repeat of the measurement."""

    grows: str
    on: str
    what: str
    unit: str
    kind: Kind
    samples: Mapping[int, Sequence[float]]

    @property
    def medians(self) -> dict[int, float]:
        """By size."""
        return {n: median(values) for n, values in sorted(self.samples.items())}

    @property
    def exponent(self) -> float:
        """See `exponent`."""
        return exponent(self.medians)


def exponent(costs: Mapping[int, float]) -> float:
    """e of cost ~ n**e: the median of the slopes between all pairs of sizes within the last two
    decades (Theil and Sen), which one odd measurement does not move far. ValueError for less than
    two sizes there."""
    known = [
        (math.log(n), math.log(cost)) for n, cost in costs.items() if DECADES * n >= max(costs)
    ]
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(sorted(known), 2)]
    if not slopes:
        raise ValueError(f"an exponent needs two sizes within two decades, not {sorted(costs)}")
    return median(slopes)


def worst(rows: Sequence[Row]) -> dict[str, float]:
    """Of all rows, and of those of one operation."""
    each = [row.exponent for row in rows if row.kind is Kind.OPERATION]
    return {
        "worst_exponent": round(max(row.exponent for row in rows), 3),
        "worst_per_operation_exponent": round(max(each, default=0.0), 3),
    }
