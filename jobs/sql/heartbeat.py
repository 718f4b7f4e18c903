"""The heartbeat is the checkpoint: leases extended and images moved on. Part of SqlLedger.

It runs for every job in flight about once a second, so it reads no request and writes only rows
that no index covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.compiled import send
from jobs.db.rows import dump, load
from jobs.job import (
    SETTLED,
    TRANSITIONS,
    IllegalTransition,
    RenderEvent,
    RenderState,
)
from jobs.lease import Beat, RenderBeat, Renewal

_EVENTS = {RenderState.RENDERING: RenderEvent.START, RenderState.FINISHING: RenderEvent.DECODED}


@dataclass(slots=True)
class _Stored:
    """What the ledger knows of one held job before this beat."""

    renewal: Renewal
    renders: dict[int, RenderState] = field(default_factory=dict)
    previews: dict[int, tuple[int, ...]] = field(default_factory=dict)


def write_beats(
    connection: Connection, beats: Sequence[Beat], lease_seconds: float, now: float
) -> list[Renewal]:
    """One Renewal per beat, in order. `cancelled` here means that a cancel is wanted: the caller
    settles it, with the progress that this beat has brought."""
    stored = _renewed(connection, beats, lease_seconds, now)
    held = [beat for beat in beats if (beat.job_id, beat.fence) in stored]
    rows: list[dict[str, object]] = []
    for beat in held:
        job = stored[beat.job_id, beat.fence]
        rows += [_row(beat.job_id, r, job) for r in beat.renders if _moves(r, job)]
    if rows:
        send(connection, (sql.BEAT, rows))
    return [_renewal(beat, stored.get((beat.job_id, beat.fence))) for beat in beats]


def _renewal(beat: Beat, job: _Stored | None) -> Renewal:
    return Renewal(beat.job_id, held=False) if job is None else job.renewal


def _renewed(
    connection: Connection, beats: Sequence[Beat], lease_seconds: float, now: float
) -> Mapping[tuple[str, int], _Stored]:
    """Extend the leases that are still held: jobs by id and fence, locked as by `lock_jobs`. A
    newer version holds those whose images are in states that this one does not know."""
    ids = {"ids": [beat.job_id for beat in beats]}
    leases = {
        **ids,
        "held": [(beat.job_id, beat.fence) for beat in beats],
        "lease_until": now + lease_seconds,
        "lease_seconds": lease_seconds,
    }
    if connection.dialect.name == "sqlite":
        *_, renewed = send(connection, (sql.RENEW, leases), (sql.RENEWED, ids))
    else:
        (renewed,) = send(connection, (sql.RENEW_AT_ONCE, leases))
    stored: dict[tuple[str, int], _Stored] = {}
    unreadable: set[tuple[str, int]] = set()
    for job_id, fence, cancelled, yield_to, index, state, previews in renewed.rows:
        if (job := stored.get((job_id, fence))) is None:
            renewal = Renewal(job_id, True, bool(cancelled), yield_to)
            job = stored[job_id, fence] = _Stored(renewal)
        try:
            job.renders[index] = RenderState(state)
            job.previews[index] = load(previews)
        except ValueError:
            unreadable.add((job_id, fence))
    return {held: job for held, job in stored.items() if held not in unreadable}


def _moves(beat: RenderBeat, job: _Stored) -> bool:
    """Whether this beat says anything: an image may have been settled since it was taken."""
    return beat.state is not RenderState.WAITING and job.renders[beat.index] not in SETTLED


def _row(job_id: str, beat: RenderBeat, job: _Stored) -> dict[str, object]:
    event = _EVENTS.get(beat.state)
    if event is None:
        raise IllegalTransition(f"job {job_id}, image {beat.index}: a beat in state {beat.state}")
    was = job.renders[beat.index]
    job.renders[beat.index] = TRANSITIONS[was][event]
    previews = set(job.previews[beat.index]).union(beat.previews)
    return {
        "job_id": job_id,
        "idx": beat.index,
        "was": was,
        "state": job.renders[beat.index],
        "pass_no": beat.pass_no,
        "previews": dump(sorted(previews)),
        "checkpoint": beat.checkpoint,
        "checkpoint_pass": beat.checkpoint_pass,
        "life": beat.life,
        "gpu_seconds": beat.gpu_seconds,
        "joules": beat.joules,
    }
