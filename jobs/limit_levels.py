"""How far a lane's limits are tightened, as it is kept; decided in autoscaling/limits.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitLevel:
    """level: 0 for the usual limits, n for the first n marks. reason: of the last change.

    since: when the level was entered. drain_seconds: of the last reading, at read_at. held_since:
    since when readings have called for the same change, or for none. Times are the ledger's.
    """

    level: int = 0
    since: float = 0.0
    reason: str = ""
    drain_seconds: float = 0.0
    read_at: float = 0.0
    held_since: float = 0.0
