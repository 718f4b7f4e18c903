"""What a lost or failed attempt costs a job. Pure; the ledger stores the outcome."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.job import Job, JobEvent

_REASONS_KEPT = 20
ALSO_ALONE = ", also alone"
"""Ends the reason of an attempt that failed with no other job in the call; see trials.py."""


@dataclass(frozen=True, slots=True)
class LeaseEnd:
    """How a lease ended before its job did."""

    reason: str | None
    """The error; None for a hand-over, which is no attempt."""
    lapsed: bool
    """It ran out, without a word from its holder."""
    progressed: bool
    """It left progress from which the next one goes on."""


def is_suspect(job: Job) -> bool:
    """Whether its last attempt ended so, and the next one should be alone, too. A lapse is no such
    reason: a dispatcher's death says nothing of its jobs."""
    return bool(job.errors) and job.errors[-1].endswith(ALSO_ALONE)


def return_to_queue(job: Job, end: LeaseEnd, attempts_max: int) -> Job:
    """The job afterwards: queued again, cancelled, or failed.

    An error is an attempt; a lapse is one only without progress; progress resets the count. So a
    job that moves never fails for it, and a job that kills every decoder does.
    """
    if job.cancel_requested:
        return job.on(JobEvent.CANCEL)
    attempts = 0 if end.progressed else job.attempts
    errors = job.errors
    if end.reason is not None:
        attempts += not (end.lapsed and end.progressed)
        errors = (*errors, end.reason)[-_REASONS_KEPT:]
    renders = tuple(r if r.settled else replace(r, attempts=attempts) for r in job.renders)
    job = replace(job, attempts=attempts, errors=errors, renders=renders)
    if attempts < attempts_max:
        return job.on(JobEvent.RETURN)
    renders = tuple(r if r.settled else replace(r, error=end.reason) for r in job.renders)
    return replace(job, renders=renders).on(JobEvent.FAIL)
