"""What the ledger refuses or cannot do.

LedgerError
├── LedgerUnavailable   it cannot write now (disk full, database away): answer 503, try again
├── JobUnreadable       a newer version wrote the job, and only that one can read it
├── LeaseLost           the fence is old: the job has another holder, or it has ended
├── NotYetOpen          the tenant's tier is not open to it yet
├── QuotaExceeded       the tenant has used up today's images
├── QueueFull           as many of the tenant's jobs wait in the lane as its tier allows
├── FilesFull           as many files as the tenant may keep
└── IdempotencyMismatch the same key came with another body
"""

from __future__ import annotations

from jobs.files import FileRoom
from jobs.tiers import Usage


class LedgerError(Exception):
    """Something the ledger refuses or cannot do."""


class LedgerUnavailable(LedgerError):
    """The ledger cannot write now; nothing was half accepted."""


class JobUnreadable(LedgerError):
    """A newer version wrote the job, and this one does not understand it. It is not lost."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} was written by a newer version")


class LeaseLost(LedgerError):
    """The write carried an old fence and changed nothing."""


class NotYetOpen(LedgerError):
    """The tenant's tier is not open to it yet; nothing was written. percent: of the tier's tenants
    that are let in so far."""

    def __init__(self, tier: str, percent: float) -> None:
        super().__init__(f"tier {tier!r} is open to {percent:g} % of its accounts so far")
        self.tier = tier
        self.percent = percent


class QuotaExceeded(LedgerError):
    """The tenant has used up its images for today. asked: images of the refused request."""

    def __init__(self, asked: int, usage: Usage) -> None:
        super().__init__(f"{asked} more images asked for, {usage.used} of {usage.limit} used today")
        self.asked = asked
        self.usage = usage


class QueueFull(LedgerError):
    """As many of the tenant's jobs wait as its tier allows. first_job_id: the oldest of them."""

    def __init__(self, limit: int, first_job_id: str) -> None:
        super().__init__(f"{limit} jobs are waiting, and no more may")
        self.limit = limit
        self.first_job_id = first_job_id


class FilesFull(LedgerError):
    """The tenant keeps as much as it may: delete some files first."""

    def __init__(self, room: FileRoom, files: int, size_bytes: int) -> None:
        super().__init__(
            f"{files} files of {size_bytes} bytes are kept; at most {room.files} files of "
            f"{room.bytes} bytes together may be"
        )
        self.room = room


class BatchesFull(LedgerError):
    """The tenant has as many unended batches as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} batches have not ended yet, and no more may be open")
        self.most = most


class IdempotencyMismatch(LedgerError):
    """The same Idempotency-Key was used with another request body."""
