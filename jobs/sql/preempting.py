"""Asking renders to give way to a fairer tier, as giving_way.py decides. Part of SqlLedger.

What is asked is kept on the leases, so that several dispatchers that look at the same crowd do not
ask twice; and on each job for which slots were cleared, so that no more are cleared for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from jobs.db import statements as sql
from jobs.ledger import Asking
from jobs.policy.fair_queue import FairQueue
from jobs.policy.preemption import GivingWay, Holding, Wanting, give_way
from jobs.sql.records import lock_jobs

_QUEUED_READ = 16  # enough for one look at the head of a queue; the next look sees the next


_NOBODY = GivingWay({}, {}, frozenset())


def who_gives_way(
    connection: Connection, fair_queue: FairQueue, asking: Asking, now: float
) -> GivingWay:
    """Reads only. As long as nobody waits to whom anybody could give way, very little."""
    tiers = {row.tier for row in connection.execute(sql.TIERS_OF_LANE, {"lane": asking.lane})}
    shares = fair_queue.shares(tiers)
    least = min(shares.values(), default=1.0)
    larger = [tier for tier, share in shares.items() if share > least]
    wanting = [job for tier in larger for job in _queued(connection, asking.lane, tier, now)]
    if not wanting and not any(tier in larger for tier in asking.waiting.values()):
        return _NOBODY
    rows = connection.execute(sql.HELD, {"lane": asking.lane})
    held = [row for row in rows if row.pass_no is not None]  # some image is not drawn yet
    wanting += [
        Wanting(row.job_id, row.tier, row.images, row.created_at)
        for row in held
        if row.job_id in asking.waiting and not row.way_made
    ]
    present = {row.tier for row in held} | {job.tier for job in wanting}
    return give_way(fair_queue.shares(present), wanting, _holding(held, asking))


def _queued(connection: Connection, lane: str, tier: str, now: float) -> list[Wanting]:
    where = {"lane": lane, "tier": tier, "now": now, "limit": _QUEUED_READ}
    rows = connection.execute(sql.NEXT_WITHOUT_WAY, where)
    return [Wanting(row.id, tier, row.images, row.created_at) for row in rows]


def make_way(
    connection: Connection, fair_queue: FairQueue, asking: Asking, now: float
) -> list[str]:
    """See Ledger.make_way; inside the caller's transaction."""
    # One asks at a time, and none while somebody claims.
    connection.execute(sql.LOCK_TIERS_OF_LANE, {"lane": asking.lane})
    decided = who_gives_way(connection, fair_queue, asking, now)
    lock_jobs(connection, [*decided.leaving, *decided.served])
    leaving = [{"job_id": job, "tier": tier} for job, tier in decided.leaving.items()]
    if not leaving:
        return []
    connection.execute(sql.ASK_TO_LEAVE, leaving)
    if decided.drawn:
        connection.execute(sql.PREEMPTED, {"ids": list(decided.drawn)})
        connection.execute(sql.WAY_MADE, {"ids": list(decided.served), "yes": True})
    return list(decided.leaving)


def _drawn(row: Row[Any], asking: Asking) -> float | None:
    """The asker knows of its own jobs what no heartbeat has said yet; a slot that is not there
    cannot be cleared for anybody."""
    if row.worker == asking.worker:
        return asking.drawing.get(row.job_id)
    return row.pass_no / row.passes if row.drawing else None


def _holding(held: Sequence[Row[Any]], asking: Asking) -> list[Holding]:
    return [
        Holding(
            job_id=row.job_id,
            tier=row.tier,
            images=row.images,
            claimed_at=row.claimed_at,
            mine=row.worker == asking.worker,
            shelved=row.job_id in asking.waiting and row.job_id not in asking.drawing,
            drawn=_drawn(row, asking),
            leaving=row.yield_to is not None,
            preemptions=row.preemptions,
        )
        for row in held
    ]
