"""How much waits and runs in a lane, and how long a job of it will take. Seconds of work are
predicted GPU-seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ARRIVAL_WINDOW_SECONDS = 6.0
"""Over which arrivals are measured: short enough to see a burst begin."""
ETA_SECONDS = 2.0
ETA_SHARE = 0.1
"""An ETA is news when it is off by more than both."""


@dataclass(frozen=True, slots=True)
class TierWaiting:
    """What waits in one tier. Counted up to 500 jobs and estimated above that."""

    jobs: int
    seconds: float
    oldest_seconds: float = 0.0
    """The longest wait among the jobs that are claimed next."""
    parked_jobs: int = 0
    """Beside `jobs`: of tenants that already render as many images at once as they may. More
    decoders do not help them, so their seconds are not counted."""


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits and runs in a lane."""

    read_at: float
    """On the ledger's clock."""
    waiting: Mapping[str, TierWaiting]
    """By tier, where any job waits."""
    active_jobs: int
    """Under lease."""
    running_seconds: float
    """Left to render of the active jobs."""
    arrival_rate: float
    """Work accepted per second, over the last ARRIVAL_WINDOW_SECONDS or the newest thousands of
    jobs."""
    drawn_rate: float | None
    """Work rendered per second of the last minute in which any job ran; None when too little has
    finished to say."""
    unbegun_seconds: float = 0.0
    """Of `running_seconds`: what waits for a slot."""
    batch_jobs: int = 0
    """Of batches, which wait beside all others: in nothing above but `active_jobs`."""
    batch_rate: float = 0.0
    """GPU-seconds a second that batches need to be done within their windows: their work that is
    left over the time that is left."""

    @property
    def queued_jobs(self) -> int:
        """All that wait, also parked ones and those of batches."""
        return self.batch_jobs + sum(t.jobs + t.parked_jobs for t in self.waiting.values())

    @property
    def waiting_seconds(self) -> float:
        """Of all tiers."""
        return sum(tier.seconds for tier in self.waiting.values())


@dataclass(frozen=True, slots=True)
class QueueEstimate:
    """How a job stands in its queue."""

    position: int | None = None
    """Jobs that would be claimed before it, while it is queued."""
    eta_seconds: float | None = None
    """Until it is done; None when it cannot be known, as on a lane that has just begun."""


def has_moved(sent: QueueEstimate, now: QueueEstimate, passed_seconds: float) -> bool:
    """Whether a client that was sent the one estimate, that long ago, should get the other: an ETA
    that falls as time passes is no news."""
    if now.position != sent.position:
        return True
    if now.eta_seconds is None or sent.eta_seconds is None:
        return now.eta_seconds is not sent.eta_seconds
    expected = max(0.0, sent.eta_seconds - passed_seconds)
    return abs(now.eta_seconds - expected) > max(ETA_SECONDS, ETA_SHARE * expected)
