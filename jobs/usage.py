"""What a tenant has used of what its tier allows."""

from __future__ import annotations

from dataclasses import dataclass


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
