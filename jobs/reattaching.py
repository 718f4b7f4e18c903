"""Which job a request is a retry of: asked with its key again, or with its body after no answer
came. Of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from jobs import statements as sql
from jobs.job import TERMINAL
from jobs.ledger import IdempotencyMismatch
from jobs.prepared import run
from jobs.request import ImageRequest

_RETRY_SECONDS = 900.0  # a retry re-attaches to a job that is at most this old
_LOST_SECONDS = 10.0
"""So long after an answer a retry means that it was lost on its way: bytes lie in the buffers of
kernels and proxies, and only the client knows what arrived. The SDK pauses 8 seconds at most."""
_EQUAL_JOBS = 100  # so many of one body are looked at
_KEY_SECONDS = 86_400.0  # an Idempotency-Key is remembered this long, and until its job has ended


def job_to_reattach(connection: Connection, request: ImageRequest, now: float) -> str | None:
    """The job that this request is a retry of, unanswered as far as its client can know.
    IdempotencyMismatch for another body."""
    if request.idempotency_key is not None:
        return _by_key(connection, request, now)
    where = {"tenant": request.tenant, "body_hash": request.body_hash}
    rows = connection.execute(
        sql.BY_BODY, {**where, "since": now - _RETRY_SECONDS, "limit": _EQUAL_JOBS}
    ).all()
    return _to_rejoin(rows, now)


def finds_a_job(
    connection: Connection, tenant: str, key: str | None, body_hash: str | None, now: float
) -> bool:
    """Whether `job_to_reattach` would find one, or refuse another body: for a key alone, before the
    body is read, whether it might. Changes nothing."""
    if key is not None:
        row = run(connection, sql.BY_KEY, {"tenant": tenant, "key": key}).first()
        if row is None or row.created_at <= now - _KEY_SECONDS:
            return False
        other = body_hash is not None and row.body_hash != body_hash
        return other or _still_answers(row)
    where = {"tenant": tenant, "body_hash": body_hash}
    rows = connection.execute(
        sql.BY_BODY, {**where, "since": now - _RETRY_SECONDS, "limit": _EQUAL_JOBS}
    ).all()
    return _to_rejoin(rows, now) is not None


def _still_answers(row: Any) -> bool:
    """One that nobody waited for was cancelled unanswered: the retry still wants its picture."""
    return row.state not in ("cancelled", "expired") and not row.cancel_requested


def _to_rejoin(rows: Sequence[Any], now: float) -> str | None:
    """Of jobs with the body of a retry, newest first, the one to answer it with: one without an
    answer before one whose answer may be lost, one that is watched before one that was given up.

    Then the one that was renewed longest ago: equal requests that are cut off together find a job
    each, because who rejoins a job renews it.
    """

    def rank(row: Any) -> tuple[bool, bool, float]:
        watched_until = row.watched_until or 0.0
        return row.answered_at is not None, watched_until < now, watched_until

    unsure = [r for r in rows if r.answered_at is None or r.answered_at > now - _LOST_SECONDS]
    return str(min(unsure, key=rank).id) if unsure else None


def may_reattach(request: ImageRequest) -> bool:
    """Whether it could be a retry, as far as it tells."""
    return request.idempotency_key is not None or request.retry_count > 0


def _by_key(connection: Connection, request: ImageRequest, now: float) -> str | None:
    row = run(
        connection, sql.BY_KEY, {"tenant": request.tenant, "key": request.idempotency_key}
    ).first()
    if row is None:
        return None
    if row.created_at > now - _KEY_SECONDS or row.state not in TERMINAL:
        if row.body_hash != request.body_hash:
            raise IdempotencyMismatch(
                f"Idempotency-Key {request.idempotency_key!r} was used with another body"
            )
        if _still_answers(row):
            return str(row.id)
    connection.execute(sql.DROP_KEY, {"id": row.id})
    return None
