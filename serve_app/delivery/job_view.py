"""A watched job as it was last read, and what about it is news. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from jobs.depth import QueueEstimate
from jobs.job import Job

ETA_SECONDS = 2.0
ETA_SHARE = 0.1
"""An ETA is news when it is off by more than both."""


UNKNOWN = QueueEstimate()


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and its queue estimate."""

    job: Job
    estimate: QueueEstimate
    estimated_at: float
    """When the estimate was read, in seconds of any clock."""
    frames: dict[object, bytes] = field(default_factory=dict, compare=False)
    """Its encoded events, by whatever they differ in; made once for all watchers of the job."""

    @classmethod
    def after(
        cls, before: Self | None, job: Job, estimate: QueueEstimate | None, now: float
    ) -> Self:
        """What is known after a read: `before` itself where nothing is news. estimate: None when it
        was not read."""
        if before is None:
            return cls(job, estimate or UNKNOWN, now)
        if estimate is not None:
            seen = cls(job, estimate, now)
        elif job.state is before.job.state:
            seen = cls(job, before.estimate, before.estimated_at)
        else:
            seen = cls(job, UNKNOWN, now)
        return seen if seen.is_news(before, wants_estimate=True) else before

    def is_news(self, before: JobView, *, wants_estimate: bool) -> bool:
        """To a watcher that knows `before`."""
        if self.job is not before.job and self.job != before.job:
            return True
        passed = self.estimated_at - before.estimated_at
        return wants_estimate and has_moved(before.estimate, self.estimate, passed)


def has_moved(sent: QueueEstimate, now: QueueEstimate, passed_seconds: float) -> bool:
    """Whether a client that was sent the one estimate, that long ago, should get the other: an ETA
    that falls as time passes is no news."""
    if now.position != sent.position:
        return True
    if now.eta_seconds is None or sent.eta_seconds is None:
        return now.eta_seconds is not sent.eta_seconds
    expected = max(0.0, sent.eta_seconds - passed_seconds)
    return abs(now.eta_seconds - expected) > max(ETA_SECONDS, ETA_SHARE * expected)
