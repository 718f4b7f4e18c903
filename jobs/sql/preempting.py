"""Preempts jobs for tiers with a larger share, as policy/preemption.py decides. Of SqlLedger.

A preemption is kept on the lease, so that several dispatchers do not ask for it twice; and on each
job for which slots were cleared, so that no more are cleared for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from jobs.db import statements as sql
from jobs.lease import PreemptionRequest
from jobs.policy.fair_queue import FairQueue
from jobs.policy.preemption import HeldJob, PreemptionPlan, Preemptor, preempt
from jobs.sql.records import lock_jobs

_QUEUED_READ = 16  # enough for one look at the head of a queue; the next look sees the next
_NONE = PreemptionPlan({}, {}, frozenset())


def find_preemption(
    connection: Connection, fair_queue: FairQueue, asking: PreemptionRequest, now: float
) -> PreemptionPlan:
    """Reads only; very little while no job of a larger share waits."""
    tiers = {row.tier for row in connection.execute(sql.TIERS_OF_LANE, {"lane": asking.lane})}
    shares = fair_queue.shares(tiers)
    least = min(shares.values(), default=1.0)
    larger = [tier for tier, share in shares.items() if share > least]
    preemptors = [job for tier in larger for job in _queued(connection, asking.lane, tier, now)]
    if not preemptors and not any(tier in larger for tier in asking.waiting.values()):
        return _NONE
    rows = connection.execute(sql.HELD, {"lane": asking.lane})
    held = [row for row in rows if row.pass_no is not None]  # some image is not rendered yet
    preemptors += [
        Preemptor(row.job_id, row.tier, row.images, row.created_at)
        for row in held
        if row.job_id in asking.waiting and not row.way_made
    ]
    present = {row.tier for row in held} | {job.tier for job in preemptors}
    return preempt(fair_queue.shares(present), preemptors, _held_jobs(held, asking))


def _queued(connection: Connection, lane: str, tier: str, now: float) -> list[Preemptor]:
    where = {"lane": lane, "tier": tier, "now": now, "limit": _QUEUED_READ}
    rows = connection.execute(sql.QUEUED_PREEMPTORS, where)
    return [Preemptor(row.id, tier, row.images, row.created_at) for row in rows]


def store_preemption(
    connection: Connection, fair_queue: FairQueue, asking: PreemptionRequest, now: float
) -> list[str]:
    """See JobQueue.preempt; inside the caller's transaction."""
    # One dispatcher at a time, and none during a claim.
    connection.execute(sql.LOCK_TIERS_OF_LANE, {"lane": asking.lane})
    decided = find_preemption(connection, fair_queue, asking, now)
    lock_jobs(connection, [*decided.preempted, *decided.preemptors])
    preempted = [{"job_id": job, "tier": tier} for job, tier in decided.preempted.items()]
    if not preempted:
        return []
    connection.execute(sql.PREEMPT, preempted)
    if decided.rendering:
        connection.execute(sql.COUNT_PREEMPTIONS, {"ids": list(decided.rendering)})
        connection.execute(sql.SLOTS_CLEARED, {"ids": list(decided.preemptors), "yes": True})
    return list(decided.preempted)


def _progress(row: Row[Any], asking: PreemptionRequest) -> float | None:
    """The asking dispatcher knows of its own jobs what no heartbeat has said yet."""
    if row.worker == asking.worker:
        return asking.rendering.get(row.job_id)
    return row.pass_no / row.passes if row.drawing else None


def _held_jobs(held: Sequence[Row[Any]], asking: PreemptionRequest) -> list[HeldJob]:
    return [
        HeldJob(
            job_id=row.job_id,
            tier=row.tier,
            images=row.images,
            claimed_at=row.claimed_at,
            mine=row.worker == asking.worker,
            ready=row.job_id in asking.waiting and row.job_id not in asking.rendering,
            progress=_progress(row, asking),
            preempted=row.yield_to is not None,
            preemptions=row.preemptions,
        )
        for row in held
    ]
