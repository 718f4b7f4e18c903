"""How long a lane's queue is, and where in it a job stands. Part of SqlLedger; reads only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from jobs import statements as sql
from jobs.fair_queue import FairQueue
from jobs.job import SETTLED, RenderState
from jobs.ledger import Depth
from jobs.rows import request_from_json


@dataclass(frozen=True, slots=True)
class Place:
    """What would be claimed before a queued job: how many jobs, and their GPU-seconds."""

    jobs_ahead: int
    seconds_ahead: float


def place_in_queue(connection: Connection, fair_queue: FairQueue, job_id: str) -> Place | None:
    """Counted in the job's own tier, and for the other tiers what their shares let them take
    meanwhile. None when it is not queued."""
    row = connection.execute(sql.PLACE, {"id": job_id}).first()
    if row is None:
        return None
    here = {"lane": row.lane, "tier": row.tier, "vft": row.vft, "seq": row.seq}
    ahead, seconds = connection.execute(sql.AHEAD, here).one()
    if len(connection.execute(sql.TIERS_OF_LANE, {"lane": row.lane}).all()) == 1:
        return Place(int(ahead), float(seconds))
    waiting = _queued(connection, row.lane)
    shares = fair_queue.shares(tuple(waiting))
    jobs, seconds_ahead = int(ahead), float(seconds)
    for tier, (their_jobs, their_seconds) in waiting.items():
        if tier != row.tier:
            ratio = shares[tier] / shares[row.tier]
            jobs += min(their_jobs, int((ahead + 1) * ratio))
            seconds_ahead += min(their_seconds, (seconds + row.cost_seconds) * ratio)
    return Place(jobs, seconds_ahead)


def lane_depth(connection: Connection, lane: str) -> Depth:
    """Queued work whole; active work without the passes that are already drawn."""
    queued = _queued(connection, lane)
    active: set[str] = set()
    running_seconds = 0.0
    for job_id, cost_seconds, stored, state, pass_no, _ in connection.execute(
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
