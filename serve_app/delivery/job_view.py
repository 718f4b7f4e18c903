"""A watched job as it was last seen, and what about it is news. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from jobs.job import Job
from jobs.ledger import Outlook

ETA_SECONDS = 2.0
ETA_SHARE = 0.1
"""An ETA is news when it is off by more than both."""


UNKNOWN = Outlook()


@dataclass(frozen=True, slots=True)
class Sight:
    """outlook_at: when the outlook was read, in seconds of any clock. frames: its encoded
    events, by whatever they differ in; made once for all watchers of the job."""

    job: Job
    outlook: Outlook
    outlook_at: float
    frames: dict[object, bytes] = field(default_factory=dict, compare=False)

    @classmethod
    def after(cls, before: Self | None, job: Job, outlook: Outlook | None, now: float) -> Self:
        """What is known after a look: `before` itself where nothing is news. outlook: None when it
        was not looked up."""
        if before is None:
            return cls(job, outlook or UNKNOWN, now)
        if outlook is not None:
            seen = cls(job, outlook, now)
        elif job.state is before.job.state:
            seen = cls(job, before.outlook, before.outlook_at)
        else:
            seen = cls(job, UNKNOWN, now)
        return seen if seen.is_news(before, ahead=True) else before

    def is_news(self, before: Sight, *, ahead: bool) -> bool:
        """To a watcher that knows `before`, and wants to hear of the outlook if `ahead`."""
        if self.job is not before.job and self.job != before.job:
            return True
        passed = self.outlook_at - before.outlook_at
        return ahead and has_moved(before.outlook, self.outlook, passed)


def has_moved(told: Outlook, now: Outlook, passed_seconds: float) -> bool:
    """Whether a client that was told of the one, so long ago, should hear of the other: an ETA that
    falls as time passes tells nothing."""
    if now.position != told.position:
        return True
    if now.eta_seconds is None or told.eta_seconds is None:
        return now.eta_seconds is not told.eta_seconds
    expected = max(0.0, told.eta_seconds - passed_seconds)
    return abs(now.eta_seconds - expected) > max(ETA_SECONDS, ETA_SHARE * expected)
