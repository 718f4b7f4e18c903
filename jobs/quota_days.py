"""The days that images are counted by: calendar days of one time zone. Pure."""

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
