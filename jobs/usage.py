"""What a tenant has used of what its tier allows, and the days that images are counted by: calendar
days of one time zone. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo


@dataclass(frozen=True, slots=True)
class QuotaDays:
    """Days of `zone`, also where one has 23 or 25 hours. Times are seconds since the epoch."""

    zone: tzinfo = UTC

    def of(self, now: float) -> str:
        """The day that `now` is charged to: 2025-03-26."""
        return datetime.fromtimestamp(now, self.zone).date().isoformat()

    def end_of(self, now: float) -> float:
        """When the day of `now` ends. Where the clocks skip midnight, at the skip."""
        tomorrow = datetime.fromtimestamp(now, self.zone).date() + timedelta(days=1)
        return datetime.combine(tomorrow, time(), self.zone).timestamp()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant has used of a day's images. Times are seconds since the epoch on the ledger's
    clock."""

    used: int
    limit: int | None
    """Images a day; None: no limit."""
    read_at: float
    resets_at: float
    """When the next day begins."""

    @property
    def remaining(self) -> int | None:
        """Images left today; None: no limit."""
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def resets_in_seconds(self) -> float:
        """Until the next day begins."""
        return max(0.0, self.resets_at - self.read_at)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant stands against its tier's limits."""

    usage: Usage
    queued_jobs: int
    """In one lane, counted up to 10,000, or to a larger limit."""
    renders: int
    """Images under lease, in any lane."""
    newcomer: bool
    """The tenant never ordered anything."""
