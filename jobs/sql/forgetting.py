"""The ledger's side of retention: a batch of old jobs at a time. Part of SqlLedger.

Order: the tombstone (no row points to the blobs any more), the blobs, the row. A cursor for each
lane and step remembers how far the collector came. It moves only after the blobs are gone, so a
collector may die anywhere and the next one does the same batch again.

Jobs are looked at in order of arrival, by primary key: no index pays for retention at every finish.
The price is that a job which waits long keeps those that came after it from being forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from jobs.db import statements as sql
from jobs.db.rows import load
from jobs.queues import lane_of
from jobs.retention import Batch, Retention, Step
from jobs.sql.accounts import forget_tenant

BATCH = 200
_TWO_DAYS_SECONDS = 172_800.0  # what was charged then is no day of any time zone's today
_TURN_SECONDS = 60.0
"""How long a collector that took a batch keeps others from it, in case it has died."""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One step of one lane, now, over the queues of all its models."""

    lane: str
    step: Step
    kept: Retention
    now: float

    def ripe(self, row: Row[Any]) -> bool:
        """Whether this job of the lane is old enough. One that has not ended never is."""
        if row.finished_at is None:
            return False
        if self.step is Step.KEYS:
            return bool(row.created_at <= self.now - self.kept.idempotency_seconds)
        return bool(row.finished_at <= self.now - getattr(self.kept, f"{self.step}_seconds"))


def anything_aged(connection: Connection, what: Forgetting) -> bool:
    """Whether `next_batch` would find something; takes no lock."""
    where = {"lane": what.lane, "step": what.step}
    at = connection.execute(sql.RETENTION_AT, where).first()
    if at is not None and at.until > what.now:
        return False
    return bool(_aged(connection, what, at.seq if at else 0, 1))


def next_batch(connection: Connection, what: Forgetting) -> Batch | None:
    """Take the step's turn and write the tombstones; None when another collector has it."""
    until = what.now + _TURN_SECONDS
    turn = {"lane": what.lane, "step": what.step, "now": what.now, "until": until}
    after = connection.execute(sql.TAKE_RETENTION, turn).scalar()
    if after is None:
        return None
    aged = _aged(connection, what, after, BATCH)
    ours = [row for row in aged if lane_of(row.lane) == what.lane]
    blobs = _FORGET[what.step](connection, ours, what.now) if ours else {}
    return Batch(what.step, aged[-1].seq if aged else after, until, blobs)


def end_batch(connection: Connection, lane: str, batch: Batch) -> None:
    """The blobs are gone: go on behind them, unless the turn was taken away meanwhile."""
    where = {"lane": lane, "step": batch.step, "seq": batch.seq, "turn": batch.turn}
    connection.execute(sql.RETENTION_DONE, where)


def drop_jobs(connection: Connection, ids: Sequence[str]) -> None:
    """Delete the rows of ended jobs. When the newest are among them, SQLite will give their numbers
    to others: then no cursor may be beyond what is left, and no turn may end as it began."""
    newest = connection.execute(sql.NEWEST).scalar_one()
    connection.execute(sql.DROP_RENDERS, {"ids": ids})
    connection.execute(sql.DROP_JOBS, {"ids": ids})
    left = connection.execute(sql.NEWEST).scalar_one()
    if left < newest:
        connection.execute(sql.RETREAT, {"newest": left})


def drop_tenant(connection: Connection, tenant: str) -> None:
    """Delete what names a tenant beside its jobs: keys, quota, its place in the fair queue."""
    forget_tenant(connection, tenant)
    for statement in sql.DROP_TENANT:
        connection.execute(statement, {"tenant": tenant})


def _aged(connection: Connection, what: Forgetting, after: int, limit: int) -> list[Row[Any]]:
    """The next jobs, up to the first one of this lane that is too young."""
    found: list[Row[Any]] = []
    images = None
    if what.step is Step.ROWS:  # never ahead of the images
        where = {"lane": what.lane, "step": Step.IMAGES}
        images = connection.execute(sql.RETENTION_AT, where).scalar() or 0
    for row in connection.execute(sql.AGED, {"after": after, "limit": limit}):
        if images is not None and row.seq > images:
            break
        if lane_of(row.lane) == what.lane and not what.ripe(row):
            break
        found.append(row)
    return found


def _forget_previews(
    connection: Connection, rows: Sequence[Row[Any]], _now: float
) -> dict[str, tuple[str, ...]]:
    """Jobs that may own more blobs than the images that their rows point to."""
    ids = [row.id for row in rows]
    keep: dict[str, tuple[str, ...]] = dict.fromkeys(ids, ())
    messy = {row.id for row in rows if row.fence > 1}
    for job_id, blob, previews in connection.execute(sql.BLOBS, {"ids": ids}):
        keep[job_id] += () if blob is None else (blob,)
        # an image that was stopped while its picture was being stored has left that behind
        if blob is None or load(previews):
            messy.add(job_id)
    connection.execute(sql.HIDE_PREVIEWS, {"ids": ids})
    return {job_id: keys for job_id, keys in keep.items() if job_id in messy}


def _forget_images(
    connection: Connection, rows: Sequence[Row[Any]], _now: float
) -> dict[str, tuple[str, ...]]:
    ids = [row.id for row in rows]
    connection.execute(sql.HIDE_IMAGES, {"ids": ids})
    return dict.fromkeys(ids, ())


def _forget_keys(
    connection: Connection, rows: Sequence[Row[Any]], _now: float
) -> dict[str, tuple[str, ...]]:
    connection.execute(sql.DROP_KEYS, {"ids": [row.id for row in rows]})
    return {}


def _forget_rows(
    connection: Connection, rows: Sequence[Row[Any]], now: float
) -> dict[str, tuple[str, ...]]:
    ids = [row.id for row in rows]
    connection.execute(sql.DROP_QUOTA, {"ids": ids, "before": now - _TWO_DAYS_SECONDS})
    drop_jobs(connection, ids)
    return {}


_FORGET: Mapping[
    Step, Callable[[Connection, Sequence[Row[Any]], float], Mapping[str, tuple[str, ...]]]
] = {
    Step.PREVIEWS: _forget_previews,
    Step.KEYS: _forget_keys,
    Step.IMAGES: _forget_images,
    Step.ROWS: _forget_rows,
}
