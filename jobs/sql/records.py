"""Whole jobs out of a transaction and back into it. Every move of a job is written here, once:
with its expected state and fence, and with the refunds that the move brings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ClauseElement, Connection

from jobs.db import statements as sql
from jobs.db.compiled import Values, run, send
from jobs.db.rows import Unreadable, dump, job_from_rows, storable, stored_state
from jobs.files import file_of
from jobs.job import HELD, Job, Render
from jobs.ledger_errors import JobUnreadable, LeaseLost
from jobs.sql.events import write_events
from jobs.sql.parking import unpark
from jobs.tiers import DEFAULT_TIER, Refunds, Tier, refunded, refunded_passes_per_day
from jobs.usage import use_of_ended
from jobs.webhooks import events_of_ends

log = logging.getLogger(__name__)


def lock_jobs(connection: Connection, job_ids: Sequence[str], *, skip: bool = False) -> list[str]:
    """Keep all others from moving these until the transaction ends; on PostgreSQL those that exist.
    With `skip` not those that another transaction moves right now."""
    if not job_ids:
        return []
    if connection.dialect.name == "sqlite":  # one writer at a time: ours already
        return sorted(set(job_ids))
    statement = sql.LOCK_FREE_JOBS if skip else sql.LOCK_JOBS
    return [row[0] for row in run(connection, statement, {"ids": list(job_ids)})]


def load_jobs(
    connection: Connection, job_ids: Sequence[str], *, to_move: bool = False
) -> dict[str, Job]:
    """Those that exist and that this version can read, by id, in one round trip however many.
    to_move: locked as by `lock_jobs`, before they are read."""
    if not job_ids:
        return {}
    ids = {"ids": list(job_ids)}
    asked: list[tuple[ClauseElement, Values]] = [(sql.RENDERS, ids), (sql.JOBS, ids)]
    if to_move and connection.dialect.name != "sqlite":
        asked.insert(0, (sql.LOCK_JOBS, ids))
    *_, images, rows = send(connection, *asked)
    return _readable(images.rows, rows.rows)


def _readable(images: Iterable[Sequence[Any]], rows: Iterable[Sequence[Any]]) -> dict[str, Job]:
    """One that cannot be read says nothing of the others."""
    renders: dict[str, list[Sequence[Any]]] = {}
    for image in images:
        renders.setdefault(image[0], []).append(image[1:])
    jobs: dict[str, Job] = {}
    for row in rows:
        try:
            jobs[row[0]] = job_from_rows(row, renders.get(row[0], ()))
        except Unreadable as error:
            _tell(row[0], str(error))
    return jobs


@lru_cache(maxsize=1024)
def _tell(job_id: str, reason: str) -> None:
    """Once: watchers may look ten times a second."""
    log.warning("job %s is passed over, this version cannot read it: %s", job_id, reason)


def load_job(connection: Connection, job_id: str, *, to_move: bool = False) -> Job | None:
    """One job, or None. to_move: as in `load_jobs`. Raises JobUnreadable."""
    job = load_jobs(connection, [job_id], to_move=to_move).get(job_id)
    if job is None and connection.execute(sql.KNOWN_JOB, {"id": job_id}).first() is not None:
        raise JobUnreadable(job_id)
    return job


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an end needs to know. tiers: what they promise, for what is given back. part: of the
    rows that usage is added to; see usage.PARTS."""

    tiers: Mapping[str, Tier]
    now: float
    part: int


def store_jobs(
    connection: Connection, moves: Sequence[tuple[Job, Job]], settlement: Settlement
) -> None:
    """Each job over what it was, in a statement per table, and what that used. LeaseLost when one
    has moved on."""
    asked: list[tuple[ClauseElement, Values]] = [
        (sql.STORE_JOB, [_job_row(b, a) for b, a in moves])
    ]
    if let_go := [b for b, a in moves if b.state in HELD and a.state not in HELD]:
        leases = [(job.id, job.fence) for job in let_go]
        asked.append((sql.DROP_LEASES, {"ids": [job.id for job in let_go], "held": leases}))
    if rows := render_rows(moves):
        asked.append((sql.STORE_RENDER, rows))
    if used := _used_rows(moves, settlement):
        asked.append((sql.USED, used))
    stored, *others = send(connection, *asked)
    if stored.count != len(moves):
        raise LeaseLost(f"jobs {[b.id for b, _ in moves]}: moved on while they were being written")
    if let_go:
        unpark(connection, [row[0] for row in others[0].rows if row[0] is not None])
    told = {row[1] for row in others[0].rows} if let_go else set()
    _tell_webhooks(connection, moves, told, settlement.now)
    _let_sources_go(connection, [a for b, a in moves if a.ended and not b.ended])
    for before, after in sorted(moves, key=lambda move: move[1].request.tenant):
        # in one order for all transactions
        _refund(connection, before, after, settlement.tiers)


def _tell_webhooks(
    connection: Connection, moves: Sequence[tuple[Job, Job]], told: set[str | None], now: float
) -> None:
    """told: tenants with endpoints, of those whose jobs were held; others are looked up."""
    heard = [(b, a) for b, a in moves if b.state not in HELD or a.request.tenant in told]
    if heard:
        write_events(connection, events_of_ends(heard), now)


def _used_rows(moves: Sequence[tuple[Job, Job]], settlement: Settlement) -> list[dict[str, object]]:
    """In one order, so that two transactions do not wait for each other."""
    names = ("hour", "tenant", "model", "size", "source")
    return [
        {**dict(zip(names, key, strict=True)), "part": settlement.part, **asdict(used)}
        for key, used in sorted(use_of_ended(moves, settlement.now).items())
    ]


def _job_row(before: Job, after: Job) -> dict[str, object]:
    return {
        "id": before.id,
        "was": stored_state(before),
        "was_fence": before.fence,
        "state": stored_state(after),
        "fence": after.fence,
        "attempts": after.attempts,
        "cancel_requested": after.cancel_requested,
        "started_at": after.started_at,
        "finished_at": after.finished_at,
        "errors": dump(after.errors),
    }


def _let_sources_go(connection: Connection, ended: Sequence[Job]) -> None:
    """What an edit went on from is of no more use: cancelling and ordering again fills no disk."""
    sources = [job.request.source for job in ended if job.request.source is not None]
    done = sorted(file_of(source.blobs[0]) for source in sources)
    if done:
        now = max(job.finished_at or 0.0 for job in ended)
        connection.execute(sql.EXPIRE_FILES, {"ids": done, "now": now})


def _refund(connection: Connection, before: Job, job: Job, tiers: Mapping[str, Tier]) -> None:
    """To the day that was charged, in the transaction that settles, so exactly once; others that
    give back images of that tenant and day wait for it."""
    if job.request.in_batch:
        return
    passes = job.request.passes
    moved = zip(before.renders, job.renders, strict=True)
    settled = [(b, a) for b, a in moved if not b.settled and a.settled and refunded(a, passes)]
    if not settled:
        return
    tenant = job.request.tenant
    row = connection.execute(sql.REFUNDS, {"tenant": tenant, "id": job.id}).first()
    if row is None:  # of a day that is forgotten
        return
    tier = tiers.get(job.request.tier, DEFAULT_TIER)
    most = refunded_passes_per_day(tier.images_per_day)
    given = Refunds(blocks=row.refunded_blocks, passes=row.refunded_passes)
    for was, render in settled:
        given = given.with_image(was, render, passes, most)
    if given.images:
        values = {"images": given.images, "blocks": given.blocks, "passes": given.passes}
        connection.execute(sql.GIVE_QUOTA, {"tenant": tenant, "day": row.day, **values})


def render_rows(moves: Sequence[tuple[Job, Job]]) -> list[dict[str, object]]:
    """What statements.STORE_RENDER takes, of the images that have changed."""
    renders = [(b.id, pair) for b, a in moves for pair in zip(b.renders, a.renders, strict=True)]
    return [_render_row(job_id, b, a) for job_id, (b, a) in renders if b != a]


def _render_row(job_id: str, before: Render, after: Render) -> dict[str, object]:
    return {
        "job_id": job_id,
        "idx": before.index,
        "was": before.state,
        "state": after.state,
        "pass_no": after.pass_no,
        "attempts": after.attempts,
        "previews": dump(after.previews),
        "blob": after.blob,
        "stage": after.stage,
        "categories": dump(after.categories),
        "error": None if after.error is None else storable(after.error),
        "checkpoint": after.checkpoint,
        "checkpoint_pass": after.checkpoint_pass,
        "life": after.life,
        "gpu_seconds": after.gpu_seconds,
        "joules": after.joules,
        "revised_prompt": after.revised_prompt,
        "redrawn": after.redrawn,
    }
