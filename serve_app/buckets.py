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

    def wait(self, who: str, per_second: float, now: float) -> float:
        """The seconds until there is a token in the bucket of `who`, who takes none yet."""
        level = self._level(who, per_second, now)
        return 0.0 if level >= 1 else (1 - level) / per_second

    def take(self, who: str, per_second: float, now: float) -> float:
        """Take a token from the bucket of `who`. 0.0, or the seconds until there will be one."""
        wait, level = self.wait(who, per_second, now), self._level(who, per_second, now)
        self._levels[who] = (level if wait else level - 1, now)
        self._levels.move_to_end(who)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return wait

    def _level(self, who: str, per_second: float, now: float) -> float:
        holds = max(1.0, per_second * BURST_SECONDS)
        level, at = self._levels.get(who, (holds, now))
        return min(holds, level + max(0.0, now - at) * per_second)
