"""Whether equal tenants that wait at the same time are given equally much."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

LEAST_JOBS = 8.0
"""A tenant whose equal share was fewer jobs is left out: a job is indivisible."""


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1.0 when all are equal, 1/n when one has everything."""
    squares = sum(value * value for value in values)
    return 1.0 if not squares else sum(values) ** 2 / (len(values) * squares)


class Shares:
    """For every tenant of one tier: the work it got while it waited beside others, over an equal
    share of what all waiting tenants got then."""

    def __init__(self) -> None:
        self._jobs = 0
        self._work = 0
        self._each = 0.0  # what a tenant would have that has waited beside others from the start
        self._entered: dict[str, float] = {}
        self._due: defaultdict[str, float] = defaultdict(float)
        self._given: Counter[str] = Counter()

    def enters(self, tenant: str) -> None:
        """It waits for its turn from now on, unless it does already."""
        self._entered.setdefault(tenant, self._each)

    def leaves(self, tenant: str) -> None:
        """It has nothing more, or is at its own limit."""
        entered = self._entered.pop(tenant, None)
        if entered is not None:
            self._due[tenant] += self._each - entered

    def given(self, tenant: str, work: int) -> None:
        """A waiting tenant begins this much work."""
        self._jobs += 1
        self._work += work
        if len(self._entered) > 1:
            self._each += work / len(self._entered)
            self._given[tenant] += work

    def index(self) -> float | None:
        """Jain's index of the shares; None when no two waited together for long enough."""
        for tenant in list(self._entered):
            self.leaves(tenant)
        least = LEAST_JOBS * self._work / max(1, self._jobs)
        ratios = [self._given[t] / due for t, due in self._due.items() if due >= max(1, least)]
        return jain(ratios) if len(ratios) > 1 else None
