"""Whether equal tenants that wait at the same time are given equally much."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

WINDOW_SECONDS = 60.0
LEAST_JOBS = 2.0
"""Tenants whose equal share came to less than so many jobs tell nothing: a job is indivisible."""


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1.0 when all are equal, 1/n when one has everything."""
    squares = sum(value * value for value in values)
    return 1.0 if not squares else sum(values) ** 2 / (len(values) * squares)


class Shares:
    """For every tenant of one tier: what it was given while it waited, over an equal share of what
    all who waited then were given."""

    def __init__(self) -> None:
        self._before: set[str] = set()
        self._given_now: Counter[str] = Counter()
        self._jobs = 0
        self._work = 0
        self._given: defaultdict[str, float] = defaultdict(float)
        self._due: defaultdict[str, float] = defaultdict(float)

    def claimed(self, tenant: str, work: int) -> None:
        """A job of the tenant is taken out of the queue."""
        self._given_now[tenant] += work
        self._jobs += 1
        self._work += work

    def window_ends(self, waiting: Iterable[str]) -> None:
        """Count the window for those who waited at its beginning and wait now."""
        now = set(waiting)
        if throughout := sorted(self._before & now):
            given = {tenant: self._given_now[tenant] for tenant in throughout}
            due = sum(given.values()) / len(given)
            for tenant, work in given.items():
                self._given[tenant] += work
                self._due[tenant] += due
        self._before = now
        self._given_now.clear()

    def index(self) -> float | None:
        """Jain's index of the shares; None when nobody waited for long enough beside another."""
        least = LEAST_JOBS * self._work / max(1, self._jobs)
        ratios = [self._given[tenant] / due for tenant, due in self._due.items() if due >= least]
        return jain(ratios) if len(ratios) > 1 else None


def indexes(shares: Mapping[str, Shares]) -> dict[str, float | None]:
    """By tier."""
    return {tier: theirs.index() for tier, theirs in sorted(shares.items())}
