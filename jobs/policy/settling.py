"""What an image's outcome, settled exactly once, makes of its job, and what a lost or failed
attempt does. Pure; SqlLedger stores it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.job import HELD, Job, JobEvent, RenderEvent, RenderState
from jobs.lease import Outcome
from jobs.ledger_errors import LeaseLost

_OUTCOMES = {
    RenderState.SUCCEEDED: RenderEvent.SUCCEED,
    RenderState.BLOCKED: RenderEvent.BLOCK,
    RenderState.FAILED: RenderEvent.FAIL,
}


@dataclass(frozen=True, slots=True)
class Finish:
    """The arguments of one `finish_render`."""

    job_id: str
    fence: int
    index: int
    outcome: Outcome

    def of(self, job: Job | None) -> Job:
        """That job afterwards. Raises LeaseLost, and ValueError for an outcome that settles
        nothing."""
        event = _OUTCOMES.get(self.outcome.state)
        if event is None or (event is RenderEvent.SUCCEED) != (self.outcome.blob is not None):
            raise ValueError(f"not an outcome: {self.outcome}")
        if job is None or job.state not in HELD or job.fence != self.fence or not self._open(job):
            raise LeaseLost(f"job {self.job_id}, image {self.index}, fence {self.fence}")
        before = job.renders[self.index]
        render = replace(
            before.on(event),
            blob=self.outcome.blob,
            categories=self.outcome.categories,
            stage=self.outcome.stage,
            error=self.outcome.error,
            checkpoint=self.outcome.checkpoint,
            pass_no=max(before.pass_no, self.outcome.pass_no),
            attempts=max(before.attempts, self.outcome.attempts),
            life=self.outcome.life or before.life,
            gpu_seconds=_known(self.outcome.gpu_seconds, before.gpu_seconds),
            joules=_known(self.outcome.joules, before.joules),
            revised_prompt=self.outcome.revised_prompt,
            redrawn=self.outcome.redrawn,
        )
        return job.with_render(render)

    def _open(self, job: Job) -> bool:
        return 0 <= self.index < len(job.renders) and not job.renders[self.index].settled


def _known(now: float | None, before: float | None) -> float | None:
    return before if now is None else now


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
