"""How many may be inside at once: the limit of TCP Vegas, as in Netflix's concurrency-limits. Pure.

From how long they stay inside. The shortest mean stay is that of a service in which nobody waits
for another, so `limit * (1 - shortest / mean)` of those inside now only wait: a few of them keep
the service busy, more are better off outside.
"""

from __future__ import annotations

import math

LEAST, MOST = 16, 512
WINDOW = 32
"""Stays of which the mean is taken, at least: one alone says more of the machine than of us."""
FEW = 12.0
"""That wait inside is right: fewer leave the service idle at times, more only wait."""
PROBE_WINDOWS = 100
"""Then the shortest stay is forgotten and half as many let in, to measure it again: a service may
have become slower or faster for good."""


class Vegas:
    """`limit`: whole or not, between LEAST and MOST."""

    def __init__(self, limit: float = 32.0) -> None:
        self.limit = limit
        self._shortest = math.inf
        self._windows = 0
        self._seconds, self._stays, self._full = 0.0, 0, False

    def stayed(self, seconds: float, inside: int) -> None:
        """Somebody left after so long; so many others were inside."""
        self._seconds += seconds
        self._stays += 1
        self._full = self._full or inside + 1 >= int(self.limit)
        if self._stays >= max(WINDOW, self.limit):
            self._learn(self._seconds / self._stays, self._full)
            self._seconds, self._stays, self._full = 0.0, 0, False

    def _learn(self, mean: float, full: bool) -> None:
        self._windows += 1
        if self._windows % PROBE_WINDOWS == 0:
            self._shortest = math.inf
            self.limit = max(LEAST, self.limit / 2)
            return
        self._shortest = min(self._shortest, mean)
        waiting = self.limit * (1 - self._shortest / mean) if mean > 0 else 0.0
        step = max(FEW - waiting, -self.limit / 8)
        if step < 0 or full:
            self.limit = min(MOST, max(LEAST, self.limit + step))
