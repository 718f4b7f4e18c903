"""Preemption by tiers with a larger share: what dispatchers ask the ledger, without a ledger."""

from __future__ import annotations

from collections.abc import Iterable

from autoscaling.simulator.workload import SimulatedJob
from jobs.policy.fair_queue import FairQueue
from jobs.policy.preemption import SPARED_FROM, HeldJob, Preemptor, preempt


def preempt_jobs(
    fair_queue: FairQueue, without_slot: Iterable[SimulatedJob], held: Iterable[SimulatedJob]
) -> list[SimulatedJob]:
    """The held jobs that return to the queue. without_slot: jobs of larger tiers; those for which
    slots are cleared now are marked. A job that is nearly done by now stays."""
    came = {
        str(job.number): job
        for job in without_slot
        if not job.slots_cleared and not any(render.has_slot for render in job.renders)
    }
    if not came:
        return []
    by_name = {str(job.number): job for job in held}
    tiers = {job.arrival.tier for job in (*came.values(), *by_name.values())}
    decided = preempt(
        fair_queue.shares(tiers),
        [Preemptor(name, j.arrival.tier, len(j.left), j.arrival.at) for name, j in came.items()],
        [_held_job(name, job) for name, job in by_name.items()],
    )
    for name in decided.preemptors if decided.rendering else ():
        came[name].slots_cleared = True
    for name in decided.rendering:
        by_name[name].preemptions += 1
    return [by_name[name] for name in decided.preempted if by_name[name].furthest < SPARED_FROM]


def _held_job(name: str, job: SimulatedJob) -> HeldJob:
    has_slot = any(render.has_slot for render in job.renders)
    return HeldJob(
        job_id=name,
        tier=job.arrival.tier,
        images=len(job.left),
        claimed_at=job.leased_at,
        mine=True,
        ready=not has_slot,
        progress=job.furthest if has_slot else None,
        preempted=job.preempted,
        preemptions=job.preemptions,
    )
