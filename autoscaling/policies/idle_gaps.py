"""How long a replica that is not needed is worth keeping, learned from how soon such were needed
again."""

from __future__ import annotations

import math

SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Of the longest time, that are compared."""
PRIOR = 4.0
"""Replicas that have to be kept in vain before the longest time is doubted."""
MEMORY_SECONDS = 1800.0
"""Time constant by which what was seen is forgotten."""


class IdleGaps:
    """Of a replica that was not needed for g seconds until it was needed again, keeping it for up
    to k costs g if g <= k, and k and one cold start otherwise. The k that would have cost least is
    the best fixed one in hindsight; with one cold start as the longest it is ski rental at the
    beginning (never more than twice the best), and better where the gaps are alike."""

    def __init__(self) -> None:
        self._costs = [PRIOR * (1 - share) for share in SHARES]
        self._at = 0.0
        self._unneeded: list[tuple[int, int, float]] = []
        """Levels that are not needed, (above, up to, since), the highest first."""

    def observe(self, at: float, needed: int, there: int, longest: float, cold: float) -> None:
        """So many replicas are needed of those that are there. Costs are in units of `longest`."""
        if longest <= 0:
            return
        fade = math.exp(-max(0.0, at - self._at) / MEMORY_SECONDS)
        self._costs = [cost * fade for cost in self._costs]
        self._at = at
        self._expire(at, longest, cold)
        while self._unneeded and self._unneeded[-1][0] < needed:
            above, upto, since = self._unneeded.pop()
            back = min(upto, needed)
            self._learn(back - above, at - since, longest, cold)
            if upto > back:
                self._unneeded.append((back, upto, since))
                break
        top = self._unneeded[-1][0] if self._unneeded else there
        if needed < top:
            self._unneeded.append((needed, top, at))

    def keep_seconds(self, longest: float) -> float:
        """The time that would have cost least, of those up to `longest`."""
        best = min(range(len(SHARES)), key=lambda n: (self._costs[n], -n))
        return SHARES[best] * longest

    def _expire(self, at: float, longest: float, cold: float) -> None:
        """Longer gaps are all alike: what is kept for `longest` and not needed is given back."""
        for above, upto, since in self._unneeded:
            if at - since > longest:
                self._learn(upto - above, math.inf, longest, cold)
        self._unneeded = [one for one in self._unneeded if at - one[2] <= longest]

    def _learn(self, replicas: int, gap: float, longest: float, cold: float) -> None:
        for n, share in enumerate(SHARES):
            kept = share * longest
            self._costs[n] += replicas * (gap if gap <= kept else kept + cold) / longest
