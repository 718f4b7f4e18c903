"""When an image passed the stages. Pure, but for the clock that claims set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from jobs.job import Job


class Passed(StrEnum):
    """What an image in flight can have behind it; fields of StageTimes."""

    ENCODED = "encoded"  # its prompt is encoded and screened
    FIRST_PASS = "first_pass"  # its first pass, wherever that was drawn last
    LAST_PASS = "last_pass"  # only pixels are missing
    SCREENED = "screened"  # its exact pixels have a verdict
    FINISHED = "finished"  # its file is encoded, marked and signed
    STORED = "stored"  # its file is in the blob store


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Of one image under one lease, the last one when it is settled. Seconds since the epoch on the
    ledger's clock, no later than they are and as exact as the way to the ledger is short. None: not
    there, as for an image whose passes an earlier holder has done."""

    accepted: float
    """Its job is in the ledger."""
    claimed: float
    """The lease began."""
    encoded: float | None = None
    first_pass: float | None = None
    last_pass: float | None = None
    screened: float | None = None
    finished: float | None = None
    stored: float | None = None
    lease: int = 1
    """Which lease of its job this is, from 1."""
    attempts: int = 0
    """That failed, since the last progress of earlier holders."""
    preemptions: int = 0
    """Of its job."""

    @classmethod
    def of(cls, job: Job, now: float, attempts: int) -> StageTimes:
        """Of an image of a job that was just claimed."""
        return cls(
            accepted=job.created_at,
            claimed=now,
            lease=job.fence,
            attempts=attempts,
            preemptions=job.preemptions,
        )

    def passed(self, what: Passed, at: float) -> StageTimes:
        """With that behind it: passes when they were first done, as pixels may be drawn again, the
        rest when it was last done."""
        if what in _ONCE and getattr(self, what) is not None:
            return self
        change: Mapping[str, Any] = {what.value: at}
        return replace(self, **change)

    def failed(self) -> StageTimes:
        """With one failed attempt more."""
        return replace(self, attempts=self.attempts + 1)

    def seconds(self) -> Mapping[str, float]:
        """How long each stage took, by its name in STAGES; only of those it went through under this
        lease. A job is in the queue for its first lease alone."""
        ends = {
            "queue": (self.accepted, self.claimed if self.lease == 1 else None),
            "encode": (self.claimed, self.encoded),
            "first_pass": (self.encoded, self.first_pass),
            "render": (self.first_pass, self.last_pass),
            "screen": (self.last_pass, self.screened),
            "finish": (self.screened, self.finished),
            "store": (self.finished, self.stored),
        }
        return {
            stage: max(0.0, end - begin)
            for stage, (begin, end) in ends.items()
            if begin is not None and end is not None
        }


_ONCE = (Passed.FIRST_PASS, Passed.LAST_PASS)
STAGES = ("queue", "encode", "first_pass", "render", "screen", "finish", "store")
"""In order: waiting for a dispatcher; prompt encoder and prompt screen; until the first pass in a
slot is done; the passes after it; pixels and their screen; the file; the blob store."""


class LedgerClock:
    """The ledger's clock, read in this process. A first lease says what time it was there; the
    clock of this process alone goes on from it, and may be as wrong as it likes."""

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def claimed(self, job: Job) -> None:
        """A claim has just answered with this job."""
        if job.fence == 1 and job.started_at is not None:
            self._ahead = job.started_at - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.monotonic() + self._ahead
