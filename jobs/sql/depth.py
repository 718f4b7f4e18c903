"""What waits, runs, arrives and is drawn in a lane, in a handful of statements. Of SqlLedger; reads
only."""

from __future__ import annotations

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.batch_tables import NEEDED_RATE
from jobs.db.schema import PARKED_FROM
from jobs.depth import ARRIVAL_WINDOW_SECONDS, Depth, TierWaiting
from jobs.policy.queue_sketch import Key
from jobs.request import BATCH_TIER
from jobs.sql.queue_estimate import read_pace
from jobs.sql.queue_length import Queues

_ARRIVALS_READ = 4096  # the newest of all lanes; in a flood they are the last second or so
_PARKED: Key = (PARKED_FROM, 0)


def lane_depth(connection: Connection, queues: Queues, lane: str, now: float) -> Depth:
    """See Ledger.depth."""
    waiting = {}
    sketches = queues.lane(connection, lane, now)
    batch_queue = sketches.pop(BATCH_TIER, None)
    for tier, sketch in sketches.items():
        ready = sketch.before(_PARKED)
        first = connection.execute(sql.FIRST_ARRIVAL, {"lane": lane, "tier": tier}).scalar_one()
        oldest = 0.0 if first is None else max(0.0, now - first)
        parked = sketch.whole().jobs - ready.jobs
        waiting[tier] = TierWaiting(ready.jobs, ready.seconds, oldest, parked)
    pace = read_pace(connection, lane, now)
    return Depth(
        read_at=now,
        waiting=waiting,
        active_jobs=pace.held_jobs,
        running_seconds=sum(pace.running),
        arrival_rate=_arrival_rate(connection, lane, now),
        drawn_rate=pace.rate,
        unbegun_seconds=pace.unbegun_seconds,
        batch_jobs=0 if batch_queue is None else batch_queue.whole().jobs,
        batch_rate=float(connection.execute(NEEDED_RATE, {"queue": lane, "now": now}).scalar_one()),
    )


def _arrival_rate(connection: Connection, lane: str, now: float) -> float:
    """By order of arrival, which is the primary key: no submit pays for it with an index. What came
    before the clock was set back is no arrival of the next hours."""
    since = now - ARRIVAL_WINDOW_SECONDS
    where = {"lane": lane, "since": since, "now": now, "limit": _ARRIVALS_READ}
    jobs, first, seconds = connection.execute(sql.ARRIVED, where).one()
    if jobs < _ARRIVALS_READ:
        return float(seconds) / ARRIVAL_WINDOW_SECONDS
    return float(seconds / max(now - first, 0.1))
