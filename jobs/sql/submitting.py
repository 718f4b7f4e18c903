"""The first transaction of a job: re-attach, or quota, stamp, job and renders. Of SqlLedger.

Orders that arrive together are accepted together: a tenant's take their quota and their places in
the queue at once, and all rows are written in a statement per table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.compiled import run, send
from jobs.job import Job, new_job_id, parse_image_id
from jobs.ledger import Submission
from jobs.ledger_errors import QueueFull, QuotaExceeded
from jobs.policy.fair_queue import AGEING
from jobs.policy.watch_deadline import term_seconds
from jobs.request import BATCH_TIER, ImageRequest, Tenant
from jobs.sql.reattaching import Found, job_to_reattach, may_reattach
from jobs.sql.records import load_job, lock_jobs
from jobs.tiers import QuotaDays, Tier, Usage

_NO_LIMIT = 2**62
_Key = tuple[str, str]
"""(tenant, Idempotency-Key)."""


@dataclass(frozen=True, slots=True)
class Order:
    """A request that may become a job. stored: as the ledger keeps it. tier: what it promises."""

    request: ImageRequest
    stored: str
    tier: Tier

    @property
    def flow(self) -> tuple[str, str, str]:
        """Whose jobs follow one another: tenant, tier, lane."""
        return self.request.tenant, self.request.share_tier, self.request.lane

    @property
    def key(self) -> _Key | None:
        """What a later one is known by as a retry of it."""
        key = self.request.idempotency_key
        return None if key is None else (self.request.tenant, key)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for all that is accepted in one transaction."""

    now: float
    days: QuotaDays
    watch_grace_seconds: float

    @property
    def watched_until(self) -> float:
        """Of a job for which a connection waits from now on."""
        return self.now + term_seconds(self.watch_grace_seconds)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What several orders of one flow ask for together."""

    tenant: Tenant
    share: str  # the tier that they are drawn with
    lane: str
    tier: Tier
    jobs: int
    images: int
    cost_seconds: float
    entered: bool  # the tenant, in this transaction


@dataclass(frozen=True, slots=True)
class _Admitted:
    """What they have got, with the last of them: images of the day, a place in the fair queue."""

    used: int
    vft: float


def accept(connection: Connection, orders: Sequence[Order], terms: Terms) -> list[Submission]:
    """Each one's job: that which it is a retry of, or a new one. All of them or, when something is
    refused, none: which one was refused is known only of an order that comes alone. Raises
    QuotaExceeded, QueueFull, IdempotencyMismatch, JobUnreadable."""
    entered = any(may_reattach(order.request) for order in orders)
    known = _enter_tenants(connection, orders, terms.now) if entered else set()
    fresh = _fresh(orders, known)
    accepted = _insert(connection, {place: orders[place] for place in fresh}, terms, entered)
    for place, order in enumerate(orders):
        if place not in accepted:
            found = _retried(connection, order.request, terms)
            accepted[place] = (
                _insert(connection, {0: order}, terms, entered)[0]
                if found is None
                else _rejoined(connection, order, found, terms)
            )
    return [accepted[place] for place in range(len(orders))]


def _fresh(orders: Sequence[Order], known: set[_Key]) -> list[int]:
    """Places of those that are no retry: neither of a job, nor of another one among them."""
    fresh, known = [], set(known)
    for place, order in enumerate(orders):
        if order.key is None:
            if not may_reattach(order.request):
                fresh.append(place)
        elif order.key not in known:
            known.add(order.key)
            fresh.append(place)
    return fresh


def _retried(connection: Connection, request: ImageRequest, terms: Terms) -> Found | None:
    """The job that this is a retry of, locked; not one that ended before we had its lock."""

    def look() -> Found | None:
        return job_to_reattach(connection, request, terms.now, terms.watch_grace_seconds)

    while (found := look()) is not None:
        lock_jobs(connection, [found.job_id])
        if look() == found:
            break
    return found


def _rejoined(connection: Connection, order: Order, found: Found, terms: Terms) -> Submission:
    """The job's answer is this order's too; what a new job would be promised holds for it: that it
    waits for its connection, or for none, and until which deadline."""
    request = order.request
    renewed = {
        "id": found.job_id,
        "watched": request.watched,
        "until": terms.watched_until,
        "deadline_at": terms.now + request.deadline_seconds,
        "now": terms.now,
        "more": int(found.shared),
    }
    connection.execute(sql.REJOIN, renewed)
    tenant = Tenant(request.tenant, request.tier)
    usage = usage_of(connection, tenant, order.tier, terms.days, terms.now)
    job = load_job(connection, found.job_id)
    assert job is not None  # we have its lock
    return Submission(job, True, usage)


def is_newcomer(connection: Connection, tenant: Tenant) -> bool:
    """Whether the tenant never ordered anything, and no key was made for it."""
    return connection.execute(sql.KNOWN_TENANT, {"tenant": tenant.id}).first() is None


def _enter_tenants(connection: Connection, orders: Sequence[Order], now: float) -> set[_Key]:
    """Know the tenants, and make other submits of theirs wait until this transaction has ended.
    Those of the orders' keys that there are jobs with by then."""
    tiers = {order.request.tenant: order.request.tier for order in orders}
    rows = [{"tenant": tenant, "tier": tiers[tenant], "now": now} for tenant in sorted(tiers)]
    keys = {order.key for order in orders if order.key is not None}
    _, found = send(connection, (sql.TENANT, rows), (sql.KEYS, {"pairs": sorted(keys)}))
    return {(tenant, key) for tenant, key, job_id in found.rows if job_id is not None}


def _insert(
    connection: Connection, orders: Mapping[int, Order], terms: Terms, entered: bool
) -> dict[int, Submission]:
    """New jobs, by the same places. entered: whether their tenants are, in this transaction."""
    accepted: dict[int, Submission] = {}
    jobs: list[dict[str, object]] = []
    renders: list[dict[str, object]] = []
    places = sorted(orders, key=lambda place: orders[place].flow)
    for _, flow in groupby(places, lambda place: orders[place].flow):
        group = list(flow)
        got = _admit_all(connection, [orders[place] for place in group], terms, entered)
        for place, (job, usage, vft) in zip(group, got, strict=True):
            accepted[place] = Submission(job, False, usage)
            jobs.append(_job_row(job, orders[place].stored, vft, terms))
            renders += [{"job_id": job.id, "idx": render.index} for render in job.renders]
    if jobs:
        send(connection, (sql.NEW_JOB, jobs), (sql.NEW_RENDER, renders))
    return accepted


def _admit_all(
    connection: Connection, orders: Sequence[Order], terms: Terms, entered: bool
) -> Iterator[tuple[Job, Usage, float]]:
    """The jobs of one flow in their order, the usage after each, and its stamp: each follows the
    one before it, by its cost, as if they had come one by one."""
    requests, tier = [order.request for order in orders], orders[0].tier
    images, costs = [r.n for r in requests], [r.cost_seconds for r in requests]
    wanted = _Wanted(
        Tenant(requests[0].tenant, requests[0].tier),
        requests[0].share_tier,
        requests[0].lane,
        tier,
        len(orders),
        sum(images),
        sum(costs),
        entered,
    )
    got = _admit(connection, wanted, terms) or _admit_slowly(connection, wanted, terms)
    resets_at = terms.days.end_of(terms.now)
    behind = zip(_after_each(images), _after_each(costs), strict=True)
    for request, (later_images, later_cost) in zip(requests, behind, strict=True):
        until = terms.watched_until if request.watched else None
        job = Job.queued(new_job_id(), request, terms.now, until)
        used = got.used - int(later_images)
        usage = Usage(used, tier.images_per_day, terms.now, resets_at)
        yield job, usage, got.vft - later_cost


def _after_each(amounts: Sequence[float]) -> list[float]:
    """The sum of those behind it."""
    return list(accumulate(amounts[:0:-1], initial=0))[::-1]


def _job_row(job: Job, stored: str, vft: float, terms: Terms) -> dict[str, object]:
    request = job.request
    return {
        "id": job.id,
        "lane": request.lane,
        "tier": request.share_tier,
        "tenant": request.tenant,
        "vft": vft,
        "cost": request.cost_seconds,
        "no": False,
        "now": job.created_at,
        "deadline_at": job.deadline_at,
        "watched_until": job.watched_until,
        "day": terms.days.of(terms.now),
        "key": request.idempotency_key,
        "body_hash": request.body_hash,
        "request": stored,
        "parent": _parent_of(request),
    }


def _parent_of(request: ImageRequest) -> str | None:
    parent = None if request.source is None else request.source.parent
    image = None if parent is None else parse_image_id(parent)
    return None if image is None else image[0]


def _admit(connection: Connection, wanted: _Wanted, terms: Terms) -> _Admitted | None:
    """What `_admit_slowly` does, where one statement can; None: it did nothing."""
    limit, limited = _limit(wanted.tier), wanted.tier.queued_jobs is not None
    limited = limited or wanted.share == BATCH_TIER  # which counts in no day
    if connection.dialect.name != "postgresql" or limited or wanted.images > limit:
        return None
    row = run(connection, sql.ADMIT, _taken(wanted, terms) | _stamped(wanted, terms)).first()
    return None if row is None else _Admitted(row.used, row.vft)


def _admit_slowly(connection: Connection, wanted: _Wanted, terms: Terms) -> _Admitted:
    tenant = wanted.tenant
    if not wanted.entered:
        run(connection, sql.TENANT, {"tenant": tenant.id, "tier": tenant.tier, "now": terms.now})
    used = _take_quota(connection, wanted, terms)
    _check_queue(connection, wanted)
    return _Admitted(used, _stamp(connection, wanted, terms))


def usage_of(
    connection: Connection, tenant: Tenant, tier: Tier, days: QuotaDays, now: float
) -> Usage:
    """What the tenant has used of the day of `now`."""
    whose = {"tenant": tenant.id, "day": days.of(now)}
    used = connection.execute(sql.USED_QUOTA, whose).scalar() or 0
    return Usage(int(used), tier.images_per_day, now, days.end_of(now))


def _take_quota(connection: Connection, wanted: _Wanted, terms: Terms) -> int:
    if wanted.share == BATCH_TIER:
        return usage_of(connection, wanted.tenant, wanted.tier, terms.days, terms.now).used
    used = None
    if wanted.images <= _limit(wanted.tier):
        used = run(connection, sql.TAKE_QUOTA, _taken(wanted, terms)).scalar()
    if used is None:
        usage = usage_of(connection, wanted.tenant, wanted.tier, terms.days, terms.now)
        raise QuotaExceeded(wanted.images, usage)
    return int(used)


def _limit(tier: Tier) -> int:
    return _NO_LIMIT if tier.images_per_day is None else tier.images_per_day


def _taken(wanted: _Wanted, terms: Terms) -> dict[str, object]:
    day, limit = terms.days.of(terms.now), _limit(wanted.tier)
    return {"tenant": wanted.tenant.id, "day": day, "n": wanted.images, "limit": limit}


def _check_queue(connection: Connection, wanted: _Wanted) -> None:
    most = wanted.tier.queued_jobs
    if most is None:
        return
    where = {"tenant": wanted.tenant.id, "lane": wanted.lane}
    too_many = most - wanted.jobs + 1  # that wait already, for all of these to find room
    if (
        too_many <= 0
        or connection.execute(sql.LAST_ALLOWED, {**where, "limit": too_many}).first() is not None
    ):
        raise QueueFull(most, str(connection.execute(sql.FIRST_WAITING, where).scalar()))


def _stamp(connection: Connection, wanted: _Wanted, terms: Terms) -> float:
    stamp = run(connection, sql.STAMP, _stamped(wanted, terms)).scalar()
    if stamp is None:
        connection.execute(sql.NEW_LANE, _stamped(wanted, terms))
        stamp = run(connection, sql.STAMP, _stamped(wanted, terms)).scalar_one()
    return float(stamp)


def _stamped(wanted: _Wanted, terms: Terms) -> dict[str, object]:
    where = {"lane": wanted.lane, "tier": wanted.share, "now": terms.now}
    mine = {"tenant": wanted.tenant.id, "cost": wanted.cost_seconds, "ageing": AGEING}
    return where | mine
