"""How a job stands: its place in the queue and when it will be done. Part of SqlLedger; reads only.

What it needs to know of the lane is read at most once a second, however many ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row

from jobs.announcements import SILENT_SECONDS, start_seconds_of
from jobs.db import statements as sql
from jobs.depth import QueueEstimate
from jobs.job import HELD, SETTLED, JobState, RenderState
from jobs.policy.eta import (
    ONE_DECODER,
    WINDOW_SECONDS,
    HeldInterval,
    held_eta,
    measured_rate,
    queued_eta,
)
from jobs.policy.fair_queue import FairQueue
from jobs.request import BATCH_TIER
from jobs.sql.queue_length import QueuedJob, Queues, place_in_queue

_FRESH_SECONDS = 1.0
_FINISHED_READ = 200  # the newest; on a lane that finishes more in a minute they are enough


@dataclass(frozen=True, slots=True)
class LanePace:
    """What a lane renders, as it was read at one moment."""

    read_at: float
    rate: float | None
    """GPU-seconds drawn in a second; None: unknown."""
    held_jobs: int
    left: dict[str, tuple[float, ...]]
    """GPU-seconds left of every unsettled image, by held job."""
    unbegun_seconds: float = 0.0
    """Those of images that have not begun."""
    batch_jobs: frozenset[str] = frozenset()
    """Of `left`: those that give way to all others."""
    start_seconds: float = 0.0
    """Until the first decoder draws, where none was needed before."""

    @property
    def running(self) -> list[float]:
        """GPU-seconds left of every image that is being drawn, but for batches."""
        live = (images for job, images in self.left.items() if job not in self.batch_jobs)
        return [seconds for images in live for seconds in images]


class QueueEstimates:
    """What one ledger client knows of its lanes: their queues and their paces."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._paces: dict[str, LanePace] = {}

    def of(
        self, connection: Connection, fair_queue: FairQueue, job_ids: Sequence[str], now: float
    ) -> dict[str, QueueEstimate]:
        """See Ledger.estimates. One statement for the jobs, and a few for each of their lanes."""
        found: dict[str, QueueEstimate] = {}
        lanes: dict[str, list[Row[Any]]] = {}
        for row in connection.execute(sql.STANDING, {"ids": list(job_ids)}):
            if row.state == JobState.QUEUED or row.state in HELD:
                lanes.setdefault(row.lane, []).append(row)
        for lane, jobs in lanes.items():
            held = [row.id for row in jobs if row.state in HELD]
            pace = self._pace(connection, lane, now, held)
            for job_id in held:
                own = pace.left.get(job_id, ())
                running = [*pace.running, *(own if job_id in pace.batch_jobs else ())]
                eta = held_eta(own, running, pace.rate)
                found[job_id] = QueueEstimate(eta_seconds=_later(eta, pace.start_seconds))
            waiting = len(held) < len(jobs)
            sketches = self._queues.lane(connection, lane, now) if waiting else {}
            for row in (row for row in jobs if row.state == JobState.QUEUED):
                job = QueuedJob(lane, row.tier, (row.vft, row.seq), row.cost_seconds)
                ahead = place_in_queue(sketches, fair_queue, job)
                eta = queued_eta(ahead.seconds, pace.running, row.cost_seconds, pace.rate)
                found[row.id] = QueueEstimate(ahead.jobs, _later(eta, pace.start_seconds))
        return found

    def _pace(self, connection: Connection, lane: str, now: float, held: Sequence[str]) -> LanePace:
        """As it was a moment ago, but after all of `held` were claimed."""
        pace = self._paces.get(lane)
        stale = pace is None or not 0 <= now - pace.read_at < _FRESH_SECONDS
        if pace is None or stale or any(job_id not in pace.left for job_id in held):
            pace = _from_a_cold_start(connection, lane, read_pace(connection, lane, now))
            self._paces[lane] = pace
        return pace


def _from_a_cold_start(connection: Connection, lane: str, pace: LanePace) -> LanePace:
    """Where the first decoder is still to come, it is expected to draw as predicted."""
    since = pace.read_at - SILENT_SECONDS
    row = connection.execute(sql.SAID_OF_QUEUE, {"queue": lane, "since": since}).first()
    start_seconds = start_seconds_of(row.said) if row is not None else None
    if start_seconds is None:
        return pace
    return replace(pace, rate=pace.rate or ONE_DECODER, start_seconds=start_seconds)


def _later(eta_seconds: float | None, start_seconds: float) -> float | None:
    return None if eta_seconds is None else eta_seconds + start_seconds


def read_pace(connection: Connection, lane: str, now: float) -> LanePace:
    """The lane's pace over the last minute."""
    left: dict[str, tuple[float, ...]] = {}
    active: dict[str, HeldInterval] = {}
    unbegun_seconds = 0.0
    in_batches = set[str]()
    for (
        job_id,
        cost_seconds,
        images,
        passes,
        state,
        pass_no,
        started_at,
        tier,
    ) in connection.execute(sql.ACTIVE, {"lane": lane}):
        if tier == BATCH_TIER:
            in_batches.add(job_id)
        whole = cost_seconds / images
        done = 1.0 if state == RenderState.SUCCEEDED else min(1.0, pass_no / passes)
        drawn = active[job_id].drawn_seconds if job_id in active else 0.0
        active[job_id] = HeldInterval(started_at, now, drawn + whole * done)
        if state not in SETTLED:
            left[job_id] = (*left.get(job_id, ()), whole * (1 - done))
        if state == RenderState.WAITING and tier != BATCH_TIER:
            unbegun_seconds += whole * (1 - done)
    since = now - WINDOW_SECONDS
    where = {"lane": lane, "since": since, "now": now, "limit": _FINISHED_READ}
    finished = [HeldInterval(*row) for row in connection.execute(sql.FINISHED, where)]
    if len(finished) == _FINISHED_READ:
        since = finished[-1].ended_at
    rate = measured_rate(finished, list(active.values()), now, since)
    return LanePace(now, rate, len(active), left, unbegun_seconds, frozenset(in_batches))
