"""How long a lane's queue is, and where in it a job stands. Part of SqlLedger; reads only."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.policy.fair_queue import FairQueue
from jobs.policy.queue_sketch import HEAD, Backlog, Key, OrderedJobs, QueueSketch

_FRESH_SECONDS = 1.0
_REST = 20
"""A sample is read again after this many times the time that reading it took: a twentieth of a
thread, however long the queue is."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A queued job: where it stands in its tier, and its GPU-seconds."""

    lane: str
    tier: str
    key: Key
    cost_seconds: float


@dataclass(frozen=True, slots=True)
class _Sample:
    line: OrderedJobs
    fresh_from: float
    fresh_until: float


class Queues:
    """What one ledger client knows of the queues. The head of a queue is read at every
    call, the sample of what is behind it at most once a second."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], _Sample] = {}

    def sketch(self, connection: Connection, lane: str, tier: str, now: float) -> QueueSketch:
        """The queue of one tier: two statements at most, of which the second is rare."""
        where = {"lane": lane, "tier": tier}
        head = OrderedJobs.of(connection.execute(sql.FIRST_QUEUED, {**where, "limit": HEAD}))
        if len(head.keys) < HEAD:
            return QueueSketch(head, OrderedJobs())
        sample = self._samples.get((lane, tier))
        if sample is None or not sample.fresh_from <= now < sample.fresh_until:
            began = time.perf_counter()
            line = OrderedJobs.of(connection.execute(sql.SAMPLED, where))
            rest = max(_FRESH_SECONDS, _REST * (time.perf_counter() - began))
            sample = self._samples[lane, tier] = _Sample(line, now, now + rest)
        return QueueSketch(head, sample.line)

    def lane(self, connection: Connection, lane: str, now: float) -> dict[str, QueueSketch]:
        """Those of a lane's tiers with waiting jobs."""
        tiers = connection.execute(sql.TIERS_OF_LANE, {"lane": lane}).all()
        sketches = {row.tier: self.sketch(connection, lane, row.tier, now) for row in tiers}
        return {tier: sketch for tier, sketch in sketches.items() if sketch.head.keys}


def place_in_queue(
    sketches: dict[str, QueueSketch], fair_queue: FairQueue, job: QueuedJob
) -> Backlog:
    """What would be claimed before it: in its own tier, and of the other tiers what their shares
    let them take meanwhile."""
    if job.tier not in sketches:
        return Backlog(0, 0.0)
    ahead = sketches[job.tier].before(job.key)
    shares = fair_queue.shares(sketches)
    jobs, seconds = ahead.jobs, ahead.seconds
    for tier, sketch in sketches.items():
        if tier != job.tier:
            theirs, own = sketch.whole(), shares[job.tier]
            if not own:  # a batch, behind all others
                jobs, seconds = jobs + theirs.jobs, seconds + theirs.seconds
                continue
            ratio = shares[tier] / own
            jobs += min(theirs.jobs, int((ahead.jobs + 1) * ratio))
            seconds += min(theirs.seconds, (ahead.seconds + job.cost_seconds) * ratio)
    return Backlog(jobs, seconds)
