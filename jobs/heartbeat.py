"""The heartbeat is the checkpoint: leases extended and images moved on. Part of SqlLedger.

It runs for every job in flight about once a second, so it reads no request and writes only rows
that no index covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from jobs import statements as sql
from jobs.job import (
    SETTLED,
    TRANSITIONS,
    IllegalTransition,
    JobState,
    RenderEvent,
    RenderState,
    job_state,
)
from jobs.ledger import Beat, RenderBeat, Renewal
from jobs.records import lock_jobs
from jobs.rows import dump, load

_EVENTS = {RenderState.RENDERING: RenderEvent.START, RenderState.FINISHING: RenderEvent.DECODED}


@dataclass(slots=True)
class _Stored:
    """What the ledger knows of one held job before this beat."""

    state: JobState
    renders: dict[int, RenderState] = field(default_factory=dict)
    previews: dict[int, tuple[int, ...]] = field(default_factory=dict)


def write_beats(
    connection: Connection, beats: Sequence[Beat], lease_seconds: float, now: float
) -> list[Renewal]:
    """One Renewal per beat, in order. `cancelled` here means that a cancel is wanted: the caller
    settles it, with the progress that this beat has brought."""
    lock_jobs(connection, [beat.job_id for beat in beats])
    renewals = _renewed(connection, beats, lease_seconds, now)
    held = [beat for beat, renewal in zip(beats, renewals, strict=True) if renewal.held]
    stored = _load(connection, [beat.job_id for beat in held])
    rows: list[dict[str, object]] = []
    moves: list[dict[str, object]] = []
    for beat in held:
        job = stored[beat.job_id]
        rows += [_row(beat.job_id, r, job) for r in beat.renders if _moves(r, job)]
        state = job_state(job.renders.values(), leased=True)
        if state is not job.state:
            move = {"id": beat.job_id, "fence": beat.fence, "was": job.state, "state": state}
            moves.append(move)
    if moves:
        connection.execute(sql.JOB_STATE, moves)
    if rows:
        connection.execute(sql.BEAT, rows)
    return renewals


def _renewed(
    connection: Connection, beats: Sequence[Beat], lease_seconds: float, now: float
) -> list[Renewal]:
    leases = {
        "held": [(beat.job_id, beat.fence) for beat in beats],
        "lease_until": now + lease_seconds,
        "lease_seconds": lease_seconds,
    }
    rows = connection.execute(sql.RENEW, leases)
    found = {(row.job_id, row.fence): row for row in rows}
    return [_renewal(beat, found.get((beat.job_id, beat.fence))) for beat in beats]


def _renewal(beat: Beat, lease: Row[Any] | None) -> Renewal:
    if lease is None:
        return Renewal(beat.job_id, held=False)
    return Renewal(beat.job_id, True, bool(lease.cancel_requested), lease.yield_to)


def _load(connection: Connection, job_ids: Sequence[str]) -> Mapping[str, _Stored]:
    stored: dict[str, _Stored] = {}
    if job_ids:
        rows = connection.execute(sql.RENDER_STATES, {"ids": list(job_ids)})
        for job_id, index, render_state, previews, state in rows:
            job = stored.setdefault(job_id, _Stored(JobState(state)))
            job.renders[index] = RenderState(render_state)
            job.previews[index] = load(previews)
    return stored


def _moves(beat: RenderBeat, job: _Stored) -> bool:
    """Whether this beat says anything: an image may have been settled since it was taken."""
    return beat.state is not RenderState.WAITING and job.renders[beat.index] not in SETTLED


def _row(job_id: str, beat: RenderBeat, job: _Stored) -> dict[str, object]:
    event = _EVENTS.get(beat.state)
    if event is None:
        raise IllegalTransition(f"job {job_id}, image {beat.index}: a beat in state {beat.state}")
    job.renders[beat.index] = TRANSITIONS[job.renders[beat.index]][event]
    previews = set(job.previews[beat.index]).union(beat.previews)
    return {
        "job_id": job_id,
        "idx": beat.index,
        "state": job.renders[beat.index],
        "pass_no": beat.pass_no,
        "previews": dump(sorted(previews)),
        "checkpoint": beat.checkpoint,
    }
