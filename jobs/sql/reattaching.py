"""Which job a request is a retry of: asked with its key again, or with its body after no answer
came. Of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.compiled import run
from jobs.db.rows import model_of
from jobs.job import TERMINAL
from jobs.ledger_errors import IdempotencyMismatch
from jobs.policy.watch_deadline import is_waited_for
from jobs.request import Enquiry, ImageRequest

_RETRY_SECONDS = 900.0  # a retry re-attaches to a job that is at most this old
_LOST_SECONDS = 10.0
"""So long after an answer a retry means that it was lost on its way: bytes lie in the buffers of
kernels and proxies, and only the client knows what arrived. The SDK pauses 8 seconds at most."""
_EQUAL_JOBS = 100  # so many of one body are looked at
_KEY_SECONDS = 86_400.0  # an Idempotency-Key is remembered this long


@dataclass(frozen=True, slots=True)
class Found:
    """The job that a request is a retry of. shared: it may be that of another order as well, whose
    connection is still open or whose answer has arrived."""

    job_id: str
    shared: bool = False


def job_to_reattach(
    connection: Connection, request: ImageRequest, now: float, grace_seconds: float
) -> Found | None:
    """The job that this request is a retry of, unanswered as far as its client can know. Of the
    same lane and model. IdempotencyMismatch for another body."""
    if request.idempotency_key is not None:
        return _by_key(connection, request, now)
    rows = _equal(connection, request.tenant, request.lane, request.body_hash, now)
    for row in _by_evidence(rows, request, now):
        if model_of(row.request) == request.model:
            return Found(str(row.id), _is_shared(row, now, grace_seconds))
    return None


def finds_a_job(connection: Connection, enquiry: Enquiry, now: float) -> bool:
    """Whether `job_to_reattach` would find one, or refuse another body: for a key alone, before the
    body is read, whether it might. Changes nothing."""
    tenant, lane = enquiry.tenant.id, enquiry.lane
    if enquiry.key is not None:
        where = {"tenant": tenant, "lane": lane, "key": enquiry.key}
        row = run(connection, sql.BY_KEY, where).first()
        if row is None or not _is_remembered(row, now):
            return False
        return enquiry.body_hash not in (None, row.body_hash) or _still_answers(row)
    return bool(_equal(connection, tenant, lane, enquiry.body_hash or "", now))


def _equal(
    connection: Connection, tenant: str, lane: str | None, body_hash: str, now: float
) -> list[Any]:
    """Jobs with that body, newest first, whose answer has not arrived for certain."""
    where = {"tenant": tenant, "lane": lane, "body_hash": body_hash}
    rows = connection.execute(
        sql.BY_BODY, {**where, "since": now - _RETRY_SECONDS, "limit": _EQUAL_JOBS}
    ).all()
    lost = now - _LOST_SECONDS
    return [row for row in rows if row.answered_at is None or row.answered_at > lost]


def _is_remembered(row: Any, now: float) -> bool:
    return row.created_at > now - _KEY_SECONDS or row.state not in TERMINAL


def _still_answers(row: Any) -> bool:
    """One without a waiting client was cancelled unanswered: the retry still wants its picture."""
    return row.state not in ("cancelled", "expired") and not row.cancel_requested


def _by_evidence(rows: Sequence[Any], request: ImageRequest, now: float) -> list[Any]:
    """Jobs with the body of a retry, those first that it most probably means: of the same kind,
    synchronous or not; without an answer rather than with one that may be lost; watched rather
    than given up; and renewed longest ago, because that is how one looks whose client has left,
    and then one whose gateway has died.

    Equal requests that are cut off together find a job each, because a retry renews what it finds.
    """

    def rank(row: Any) -> tuple[bool, bool, bool, float, float]:
        until, answered_at = row.watched_until, row.answered_at
        other_kind = (until is not None) != request.watched
        lapsed = until is not None and until < now
        return other_kind, answered_at is not None, lapsed, until or 0.0, answered_at or 0.0

    return sorted(rows, key=rank)


def _is_shared(row: Any, now: float, grace_seconds: float) -> bool:
    return row.answered_at is not None or is_waited_for(row.watched_until, now, grace_seconds)


def may_reattach(request: ImageRequest) -> bool:
    """Whether it could be a retry, as far as it tells."""
    return request.idempotency_key is not None or request.retry_count > 0


def _by_key(connection: Connection, request: ImageRequest, now: float) -> Found | None:
    where = {"tenant": request.tenant, "lane": request.lane, "key": request.idempotency_key}
    row = run(connection, sql.BY_KEY, where).first()
    if row is None:
        return None
    if _is_remembered(row, now) and model_of(row.request) == request.model:
        if row.body_hash != request.body_hash:
            raise IdempotencyMismatch(
                f"Idempotency-Key {request.idempotency_key!r} was used with another body"
            )
        if _still_answers(row):
            return Found(str(row.id))
    connection.execute(sql.DROP_KEY, {"id": row.id})
    return None
