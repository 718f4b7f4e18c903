"""How long a lane's queue is, and where in it a job stands. Part of SqlLedger; reads only."""

from __future__ import annotations

from sqlalchemy import Connection

from jobs import statements as sql
from jobs.fair_queue import FairQueue
from jobs.job import SETTLED, RenderState
from jobs.ledger import Depth
from jobs.rows import request_from_json


def place_in_queue(connection: Connection, fair_queue: FairQueue, job_id: str) -> int | None:
    """Jobs ahead: counted in the job's own tier, and for the other tiers what their shares let
    them take meanwhile. None when it is not queued."""
    row = connection.execute(sql.PLACE, {"id": job_id}).first()
    if row is None:
        return None
    here = {"lane": row.lane, "tier": row.tier, "vft": row.vft, "seq": row.seq}
    ahead = int(connection.execute(sql.AHEAD, here).scalar_one())
    if len(connection.execute(sql.TIERS_OF_LANE, {"lane": row.lane}).all()) == 1:
        return ahead
    waiting = _queued(connection, row.lane)
    shares = fair_queue.shares(tuple(waiting))
    meanwhile = (
        min(jobs, int((ahead + 1) * shares[tier] / shares[row.tier]))
        for tier, (jobs, _) in waiting.items()
        if tier != row.tier
    )
    return ahead + sum(meanwhile)


def lane_depth(connection: Connection, lane: str) -> Depth:
    """Queued work whole; active work without the passes that are already drawn."""
    queued = _queued(connection, lane)
    active: set[str] = set()
    running_seconds = 0.0
    for job_id, cost_seconds, stored, state, pass_no in connection.execute(
        sql.ACTIVE, {"lane": lane}
    ):
        active.add(job_id)
        request = request_from_json(stored)
        if RenderState(state) not in SETTLED:
            left = max(0.0, 1 - pass_no / request.passes)
            running_seconds += cost_seconds / request.n * left
    return Depth(
        queued_jobs=sum(jobs for jobs, _ in queued.values()),
        active_jobs=len(active),
        waiting_seconds=sum(seconds for _, seconds in queued.values()),
        running_seconds=running_seconds,
    )


def _queued(connection: Connection, lane: str) -> dict[str, tuple[int, float]]:
    rows = connection.execute(sql.QUEUED_PER_TIER, {"lane": lane})
    return {tier: (int(jobs), float(seconds)) for tier, jobs, seconds in rows}
