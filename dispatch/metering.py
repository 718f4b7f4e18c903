"""What a dispatcher tells of its work, as a protocol: metrics are a concern of its host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dispatch.stage_times import StageTimes
from jobs.job import Job
from jobs.lease import Outcome


class Interruption(StrEnum):
    """Why a render left its slot before its last pass."""

    PREEMPTED = "preempted"  # for a job of a tier with a larger share
    LEFT = "left"  # its replica had no memory for it, or was leaving
    LOST = "lost"  # its replica was lost
    FAILED = "failed"  # a pass of it failed
    ABORTED = "aborted"  # a preview was blocked, its job was cancelled, or its lease was lost


class PreviewEnd(StrEnum):
    """What has become of a preview."""

    SHOWN = "shown"  # screened, and in the blob store for its client
    SCREENED = "screened"  # good, and not asked for
    BLOCKED = "blocked"  # its render was aborted
    LATE = "late"  # judged after the final picture
    SKIPPED = "skipped"  # a stage failed; the final picture is screened in any case


class LedgerTrouble(StrEnum):
    """What went wrong with the ledger."""

    UNAVAILABLE = "unavailable"
    LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True)
class SettledImage:
    """An image with its outcome, which the ledger has. job: as it was claimed."""

    job: Job
    index: int
    outcome: Outcome
    times: StageTimes
    at: float
    """Seconds since the epoch, on the ledger's clock."""


class Metering(Protocol):
    """Of one dispatcher. Called on its event loop: returns at once."""

    def settled(self, image: SettledImage) -> None:
        """An image has an outcome, and the ledger has it."""

    def interrupted(self, why: Interruption) -> None:
        """A render left its slot."""

    def preview(self, end: PreviewEnd) -> None:
        """A preview was judged, or could not be."""

    def checkpoint(self, size_bytes: int, *, stored: bool) -> None:
        """One was written to the ledger's row, or stored as a blob."""

    def trouble(self, kind: LedgerTrouble) -> None:
        """A call of the ledger failed, or a lease is lost."""


class Unmetered:
    """See Metering. Counts nothing."""

    def settled(self, image: SettledImage) -> None:
        """See Metering."""

    def interrupted(self, why: Interruption) -> None:
        """See Metering."""

    def preview(self, end: PreviewEnd) -> None:
        """See Metering."""

    def checkpoint(self, size_bytes: int, *, stored: bool) -> None:
        """See Metering."""

    def trouble(self, kind: LedgerTrouble) -> None:
        """See Metering."""
