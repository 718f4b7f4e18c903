"""What operators ask of a ledger: lists of jobs of all tenants, how far a job came and where, and
what was used by which tenant. Pure records, and what may be done with a job in which state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from jobs.job import LIVE, IllegalTransition, Job, JobState, Render, RenderState

SCANNED = 5_000
"""Jobs that a page looks at, at most: one that finds few among very many ends early, and says where
to go on."""


class JobAction(StrEnum):
    """What an operator may do with a job."""

    CANCEL = "cancel"
    REQUEUE = "requeue"


ALLOWED: Mapping[JobAction, frozenset[JobState]] = {
    JobAction.CANCEL: LIVE,
    JobAction.REQUEUE: frozenset({JobState.FAILED, JobState.EXPIRED}),
}
_TRIED_AGAIN = frozenset({RenderState.FAILED, RenderState.EXPIRED})


class JobOrder(StrEnum):
    """Which jobs a list goes through, and in which order. Each has an index."""

    NEWEST = "newest"  # all jobs, in the opposite order of their arrival
    RUNNING = "running"  # held by a dispatcher: the one that was claimed first comes first
    WAITING = "waiting"  # queued: the nearest to its deadline, which waits longest, comes first
    FAILED = "failed"  # failed or expired, the last one first


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What a list shows; None is anything. since: of JobOrder.FAILED, the earliest end."""

    order: JobOrder = JobOrder.NEWEST
    states: frozenset[JobState] | None = None
    tenant: str | None = None
    queue: str | None = None
    since: float | None = None


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where a page of a list ends. key: what the list is ordered by. seq: the order of arrival."""

    key: float
    seq: int


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job, and what its record does not say."""

    job: Job
    lease_until: float | None
    """Until when its holder may be silent; None: it has none."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """read_at: the ledger's time. next: where to go on; None is the end."""

    read_at: float
    found: tuple[FoundJob, ...]
    next: JobPlace | None


def requeued(job: Job, now: float) -> Job:
    """An ended job as it waits again, from its first pass: images that failed or expired are drawn,
    the others keep their ends. No connection waits for it any more, and it has a new
    deadline. Raises IllegalTransition."""
    if job.state not in ALLOWED[JobAction.REQUEUE] or job.cancel_requested:
        raise IllegalTransition(f"job {job.id}: requeue in state {job.state}")
    return replace(
        job,
        state=JobState.QUEUED,
        renders=tuple(_again(render) for render in job.renders),
        fence=job.fence + 1,  # what an earlier holder still writes changes nothing
        worker=None,
        finished_at=None,
        deadline_at=now + job.request.deadline_seconds,
        watched_until=None,
        attempts=0,
    )


def _again(render: Render) -> Render:
    """What it cost is counted already; what happened to it stays known."""
    if render.state not in _TRIED_AGAIN:
        return replace(render, gpu_seconds=None, joules=None)
    return Render(render.index, RenderState.WAITING, life=render.life)
