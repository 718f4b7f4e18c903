"""Token buckets, many and bounded. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict

BURST_SECONDS = 4.0
"""A bucket holds what flows into it in this time."""
REMEMBERED = 50_000
"""Buckets. The one that was used longest ago is forgotten, and forgotten means full: a crowd of
addresses gets no more than a bucket each, and holds no memory."""


class Buckets:
    """One bucket for everybody who asks. Not for several threads."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, who: str, per_second: float, now: float) -> float:
        """Take a token from the bucket of `who`. 0.0, or the seconds until there will be one."""
        holds = max(1.0, per_second * BURST_SECONDS)
        level, at = self._levels.pop(who, (holds, now))
        level = min(holds, level + max(0.0, now - at) * per_second)
        wait = 0.0 if level >= 1 else (1 - level) / per_second
        self._levels[who] = (level if wait else level - 1, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return wait
