"""Who leaves a slot for a tier with a larger share: what dispatchers ask the ledger, without it."""

from __future__ import annotations

from collections.abc import Iterable

from autoscaling.simulator.work import Job
from jobs.policy.fair_queue import FairQueue
from jobs.policy.preemption import SPARED_FROM, Holding, Wanting, give_way


def who_leaves(fair_queue: FairQueue, wanting: Iterable[Job], held: Iterable[Job]) -> list[Job]:
    """Of the held jobs. wanting: of larger tiers, without a slot; those for which slots are cleared
    now are marked. One that is nearly done by now stays."""
    came = {
        str(job.number): job
        for job in wanting
        if not job.way_made and not any(render.seated for render in job.renders)
    }
    if not came:
        return []
    holding = {str(job.number): job for job in held}
    tiers = {job.arrival.tier for job in (*came.values(), *holding.values())}
    decided = give_way(
        fair_queue.shares(tiers),
        [Wanting(name, j.arrival.tier, len(j.left), j.arrival.at) for name, j in came.items()],
        [_holding(name, job) for name, job in holding.items()],
    )
    for name in decided.served if decided.drawn else ():
        came[name].way_made = True
    for name in decided.drawn:
        holding[name].preemptions += 1
    return [holding[name] for name in decided.leaving if holding[name].furthest < SPARED_FROM]


def _holding(name: str, job: Job) -> Holding:
    seated = any(render.seated for render in job.renders)
    return Holding(
        job_id=name,
        tier=job.arrival.tier,
        images=len(job.left),
        claimed_at=job.leased_at,
        mine=True,
        shelved=not seated,
        drawn=job.furthest if seated else None,
        leaving=job.leaving,
        preemptions=job.preemptions,
    )
