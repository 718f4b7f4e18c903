"""What a lost or failed try costs a job. Pure; the ledger stores what comes out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.job import Job, JobEvent

_REASONS_KEPT = 20
ALSO_ALONE = ", also alone"
"""How the reason of a try ends that was lost with a stage, and nothing beside it; see trials.py."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """How a holder let go of a job.

    reason: why this try ended badly; None for a hand-over that is nobody's fault. lapsed: the
    holder said nothing, its lease ran out. progressed: the try left something that the next one
    need not do again.
    """

    reason: str | None
    lapsed: bool
    progressed: bool


def is_suspect(job: Job) -> bool:
    """Whether its last try ended so, and the next one should be alone, too. A lapse is no such
    reason: dispatchers die for reasons of their own."""
    return bool(job.errors) and job.errors[-1].endswith(ALSO_ALONE)


def give_back(job: Job, how: LetGo, attempts_max: int) -> Job:
    """The job afterwards: queued again, cancelled, or failed.

    An error is an attempt; a lapse is one only without progress; progress wipes out earlier ones.
    So a job that moves is never given up, and a job that kills every decoder it meets is.
    """
    if job.cancel_requested:
        return job.on(JobEvent.CANCEL)
    attempts = 0 if how.progressed else job.attempts
    errors = job.errors
    if how.reason is not None:
        attempts += not (how.lapsed and how.progressed)
        errors = (*errors, how.reason)[-_REASONS_KEPT:]
    renders = tuple(r if r.settled else replace(r, attempts=attempts) for r in job.renders)
    job = replace(job, attempts=attempts, errors=errors, renders=renders)
    if attempts < attempts_max:
        return job.on(JobEvent.RETURN)
    renders = tuple(r if r.settled else replace(r, error=how.reason) for r in job.renders)
    return replace(job, renders=renders).on(JobEvent.FAIL)
