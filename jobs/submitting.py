"""The first transaction of a job: re-attach, or quota, stamp, job and renders. Of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from jobs import statements as sql
from jobs.fair_queue import AGEING
from jobs.job import Job
from jobs.job_ids import parse_image_id
from jobs.ledger import IdempotencyMismatch, QueueFull, QuotaExceeded, Usage
from jobs.prepared import run
from jobs.quota_days import QuotaDays
from jobs.request import ImageRequest, Tenant
from jobs.tiers import Tier

_RETRY_SECONDS = 900.0  # a retry re-attaches to a job that is at most this old
_LOST_SECONDS = 10.0
"""So long after an answer a retry means that it was lost on its way: bytes lie in the buffers of
kernels and proxies, and only the client knows what arrived. The SDK pauses 8 seconds at most."""
_EQUAL_JOBS = 100  # so many of one body are looked at
_KEY_SECONDS = 86_400.0  # an Idempotency-Key is remembered this long
_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class _Admitted:
    """What a new job has got: images of the day, and a place in the fair queue."""

    usage: Usage
    vft: float


class NewJobs:
    """Rows of jobs that this transaction has accepted and not yet written: those of many submits
    are written together, before anybody looks for them."""

    def __init__(self) -> None:
        self._jobs: list[dict[str, object]] = []
        self._renders: list[dict[str, object]] = []

    def add(self, job: dict[str, object], renders: list[dict[str, object]]) -> None:
        """One more."""
        self._jobs.append(job)
        self._renders += renders

    def of(self, tenant: str) -> bool:
        """Whether a job of the tenant is among them."""
        return any(job["tenant"] == tenant for job in self._jobs)

    def write(self, connection: Connection) -> None:
        """In the order of their arrival."""
        if self._jobs:
            run(connection, sql.NEW_JOB, self._jobs)
            run(connection, sql.NEW_RENDER, self._renders)
            self._jobs, self._renders = [], []


def job_to_reattach(connection: Connection, request: ImageRequest, now: float) -> str | None:
    """The job that this request is a retry of, unanswered as far as its client can know.
    IdempotencyMismatch for another body."""
    if not _may_reattach(request):
        return None
    _enter_tenant(connection, request, now)
    if request.idempotency_key is not None:
        return _by_key(connection, request, now)
    where = {"tenant": request.tenant, "body_hash": request.body_hash}
    rows = connection.execute(
        sql.BY_BODY, {**where, "since": now - _RETRY_SECONDS, "limit": _EQUAL_JOBS}
    ).all()
    return _to_rejoin(rows, now)


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


def _may_reattach(request: ImageRequest) -> bool:
    return request.idempotency_key is not None or request.retry_count > 0


def _by_key(connection: Connection, request: ImageRequest, now: float) -> str | None:
    row = run(
        connection, sql.BY_KEY, {"tenant": request.tenant, "key": request.idempotency_key}
    ).first()
    if row is None:
        return None
    if row.created_at > now - _KEY_SECONDS:
        if row.body_hash != request.body_hash:
            raise IdempotencyMismatch(
                f"Idempotency-Key {request.idempotency_key!r} was used with another body"
            )
        # One that nobody waited for was cancelled unanswered: the retry still wants its picture.
        if row.state not in ("cancelled", "expired") and not row.cancel_requested:
            return str(row.id)
    connection.execute(sql.DROP_KEY, {"id": row.id})
    return None


def is_newcomer(connection: Connection, tenant: Tenant) -> bool:
    """Whether the tenant never asked for anything, and nobody made a key for it."""
    return connection.execute(sql.KNOWN_TENANT, {"tenant": tenant.id}).first() is None


def _enter_tenant(connection: Connection, request: ImageRequest, now: float) -> None:
    """Know the tenant, and make its other submits wait until this one has ended."""
    tenant = {"tenant": request.tenant, "tier": request.tier, "now": now}
    run(connection, sql.TENANT, tenant)


def insert_job(
    connection: Connection, job: Job, new: NewJobs, *, stored: str, tier: Tier, days: QuotaDays
) -> Usage:
    """Take the quota, stamp the place in the fair queue, hand the job and its renders to `new`. The
    tenant's usage with it. Raises QuotaExceeded, QueueFull."""
    request = job.request
    admitted = _admit(connection, job, tier, days) or _admit_slowly(connection, job, tier, days)
    new.add(
        {
            "id": job.id,
            "lane": request.lane,
            "tier": request.tier,
            "tenant": request.tenant,
            "vft": admitted.vft,
            "cost": request.cost_seconds,
            "no": False,
            "now": job.created_at,
            "deadline_at": job.deadline_at,
            "watched_until": job.watched_until,
            "day": days.of(job.created_at),
            "key": request.idempotency_key,
            "body_hash": request.body_hash,
            "request": stored,
            "parent": _parent_of(request),
        },
        [{"job_id": job.id, "idx": r.index} for r in job.renders],
    )
    return admitted.usage


def _parent_of(request: ImageRequest) -> str | None:
    parent = None if request.source is None else request.source.parent
    image = None if parent is None else parse_image_id(parent)
    return None if image is None else image[0]


def _admit(connection: Connection, job: Job, tier: Tier, days: QuotaDays) -> _Admitted | None:
    """What `_admit_slowly` does, where one statement can; None: it did nothing."""
    request, limit = job.request, _limit(tier)
    limited = tier.queued_jobs is not None
    if connection.dialect.name != "postgresql" or limited or request.n > limit:
        return None
    row = run(connection, sql.ADMIT, _taken(job, days, limit) | _stamped(job)).first()
    if row is None:
        return None
    usage = Usage(row.used, tier.images_per_day, job.created_at, days.end_of(job.created_at))
    return _Admitted(usage, row.vft)


def _admit_slowly(connection: Connection, job: Job, tier: Tier, days: QuotaDays) -> _Admitted:
    if not _may_reattach(job.request):
        _enter_tenant(connection, job.request, job.created_at)
    usage = _take_quota(connection, job, tier, days)
    _check_queue(connection, job.request, tier.queued_jobs)
    return _Admitted(usage, _stamp(connection, job))


def usage_of(
    connection: Connection, tenant: Tenant, tier: Tier, days: QuotaDays, now: float
) -> Usage:
    """What the tenant has used of the day of `now`."""
    whose = {"tenant": tenant.id, "day": days.of(now)}
    used = connection.execute(sql.USED_QUOTA, whose).scalar() or 0
    return Usage(int(used), tier.images_per_day, now, days.end_of(now))


def _take_quota(connection: Connection, job: Job, tier: Tier, days: QuotaDays) -> Usage:
    request, limit, now = job.request, _limit(tier), job.created_at
    used = None
    if request.n <= limit:
        used = run(connection, sql.TAKE_QUOTA, _taken(job, days, limit)).scalar()
    if used is None:
        tenant = Tenant(request.tenant, request.tier)
        raise QuotaExceeded(request.n, usage_of(connection, tenant, tier, days, now))
    return Usage(int(used), tier.images_per_day, now, days.end_of(now))


def _limit(tier: Tier) -> int:
    return _NO_LIMIT if tier.images_per_day is None else tier.images_per_day


def _taken(job: Job, days: QuotaDays, limit: int) -> dict[str, object]:
    request = job.request
    day = days.of(job.created_at)
    return {"tenant": request.tenant, "day": day, "n": request.n, "limit": limit}


def _check_queue(connection: Connection, request: ImageRequest, queued_jobs: int | None) -> None:
    if queued_jobs is None:
        return
    where = {"tenant": request.tenant, "lane": request.lane}
    last = connection.execute(sql.LAST_ALLOWED, {**where, "limit": queued_jobs}).first()
    if last is not None:
        first = connection.execute(sql.FIRST_WAITING, where).scalar_one()
        raise QueueFull(queued_jobs, str(first))


def _stamp(connection: Connection, job: Job) -> float:
    stamp = run(connection, sql.STAMP, _stamped(job)).scalar()
    if stamp is None:
        connection.execute(sql.NEW_LANE, _stamped(job))
        stamp = run(connection, sql.STAMP, _stamped(job)).scalar_one()
    return float(stamp)


def _stamped(job: Job) -> dict[str, object]:
    request = job.request
    where = {"lane": request.lane, "tier": request.tier, "now": job.created_at}
    mine = {"tenant": request.tenant, "cost": request.cost_seconds, "ageing": AGEING}
    return where | mine
