"""Token buckets, many and bounded. Pure: the time is an argument."""

from __future__ import annotations

from collections import OrderedDict

BURST_SECONDS = 4.0
"""A bucket holds what flows into it in this time."""
REMEMBERED = 50_000
"""Buckets. The one that was used longest ago is forgotten, and forgotten means full: a crowd of
addresses gets no more than a bucket each, and holds no memory."""


class Buckets:
    """One bucket a caller. Not for several threads."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, caller: str, per_second: float, now: float) -> float:
        """Take a token. 0.0, or the seconds until there will be one."""
        level = self._level(caller, per_second, now)
        wait = _wait(level, per_second)
        self._keep(caller, level if wait else level - 1, now)
        return wait

    def wait(self, caller: str, per_second: float, now: float) -> float:
        """What `take` would answer; takes nothing."""
        return _wait(self._level(caller, per_second, now), per_second)

    def charge(self, caller: str, per_second: float, now: float, tokens: float) -> None:
        """Take so many tokens for what has been done already, more than there are if need be: the
        caller waits until they have flowed in again."""
        self._keep(caller, self._level(caller, per_second, now) - tokens, now)

    def _level(self, caller: str, per_second: float, now: float) -> float:
        holds = max(1.0, per_second * BURST_SECONDS)
        level, at = self._levels.get(caller, (holds, now))
        return min(holds, level + max(0.0, now - at) * per_second)

    def _keep(self, caller: str, level: float, now: float) -> None:
        self._levels[caller] = (level, now)
        self._levels.move_to_end(caller)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)


def _wait(level: float, per_second: float) -> float:
    return 0.0 if level >= 1 else (1 - level) / per_second
