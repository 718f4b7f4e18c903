"""Settling images exactly once: what an outcome makes of a job. Pure; SqlLedger stores it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.job import HELD, Job, RenderEvent, RenderState
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
        render = replace(
            job.renders[self.index].on(event),
            blob=self.outcome.blob,
            categories=self.outcome.categories,
            stage=self.outcome.stage,
            error=self.outcome.error,
            checkpoint=self.outcome.checkpoint,
            pass_no=max(job.renders[self.index].pass_no, self.outcome.pass_no),
            attempts=max(job.renders[self.index].attempts, self.outcome.attempts),
        )
        return job.with_render(render)

    def _open(self, job: Job) -> bool:
        return 0 <= self.index < len(job.renders) and not job.renders[self.index].settled
