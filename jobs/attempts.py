"""What a lost or failed try costs a job. Pure; the ledger stores what comes out."""

from __future__ import annotations

from dataclasses import replace

from jobs.job import Job, JobEvent

_REASONS_KEPT = 20


def give_back(job: Job, *, reason: str | None, progressed: bool, attempts_max: int) -> Job:
    """The job after its holder let go of it: queued again, cancelled, or failed.

    reason: why this try ended badly; None for a hand-over that is nobody's fault. Attempts count
    tries in a row without progress, so a job that moves is never given up, and a job that kills
    every decoder it meets is.
    """
    if job.cancel_requested:
        return job.on(JobEvent.CANCEL)
    attempts = 0 if progressed else job.attempts
    errors = job.errors
    if reason is not None:
        attempts += 1
        errors = (*errors, reason)[-_REASONS_KEPT:]
    renders = tuple(r if r.settled else replace(r, attempts=attempts) for r in job.renders)
    job = replace(job, attempts=attempts, errors=errors, renders=renders)
    if attempts < attempts_max:
        return job.on(JobEvent.RETURN)
    renders = tuple(r if r.settled else replace(r, error=reason) for r in job.renders)
    return replace(job, renders=renders).on(JobEvent.FAIL)
