"""Taking the next jobs of a lane under a lease, in fair order. Part of SqlLedger."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.compiled import send
from jobs.job import Job, JobEvent
from jobs.ledger_errors import LeaseLost
from jobs.policy.fair_queue import FairQueue, Head, Served, aged
from jobs.sql.parking import ConcurrencyLimits
from jobs.sql.records import load_jobs
from jobs.sql.verbs import PassedOver

_ROUNDS = 50
"""A claim meets so many times jobs that it cannot read; the next one goes on behind them."""


@dataclass(slots=True)
class _TierQueue:
    """One tier's next jobs, what it has been given, and how far its virtual time is."""

    heads: deque[Head]
    served: Served
    vtime: float


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants how many jobs of which lane, and for how long at a time. sparing: none of these
    tenants."""

    lane: str
    worker: str
    limit: int
    lease_seconds: float
    sparing: frozenset[str] = frozenset()


def claim_jobs(
    connection: Connection, fair_queue: FairQueue, claim: Claim, passed: PassedOver, now: float
) -> list[Job]:
    """See Ledger.claim; inside the caller's transaction."""
    for _ in range(_ROUNDS):
        queues = _tier_queues(connection, fair_queue, claim, passed.ids, now)
        chosen = _choose(fair_queue, queues, claim.limit)
        found = load_jobs(connection, [head.job_id for _, head in chosen])
        if not passed.note([head.job_id for _, head in chosen], found):
            return _lease(connection, claim, queues, chosen, found, now)
    return []


def _lease(
    connection: Connection,
    claim: Claim,
    queues: Mapping[str, _TierQueue],
    chosen: Sequence[tuple[str, Head]],
    found: Mapping[str, Job],
    now: float,
) -> list[Job]:
    if not chosen:
        return []
    jobs = [_leased(found[head.job_id], claim.worker, now) for _, head in chosen]
    ids = [job.id for job in jobs]
    tiers = sorted({tier for tier, _ in chosen})
    leased, *_ = send(
        connection,
        (sql.LEASE, {"ids": ids, "now": now}),
        (sql.NEW_LEASE, [_lease_row(job, claim, now) for job in jobs]),
        (sql.SERVED, [_queue_row(claim.lane, tier, queues[tier], now) for tier in tiers]),
    )
    if leased.count != len(ids):
        raise LeaseLost(f"jobs {ids}: moved on while they were being claimed")
    return jobs


def _tier_queues(
    connection: Connection,
    fair_queue: FairQueue,
    claim: Claim,
    passed: Sequence[str],
    now: float,
) -> dict[str, _TierQueue]:
    """Every tier of the lane, also those without work: virtual time is the furthest of all."""
    queues: dict[str, _TierQueue] = {}
    (tiers,) = send(connection, (sql.LOCK_TIERS_OF_LANE, {"lane": claim.lane}))
    # From here on we know what those before us have claimed.
    limits = ConcurrencyLimits(fair_queue, claim.sparing)
    for tier, vtime, vtime_at, began, ended in tiers.rows:
        wanted = {"lane": claim.lane, "tier": tier, "now": now, "limit": claim.limit}
        where = {**wanted, "passed": passed}
        queues[tier] = _TierQueue(
            deque(Head(r.id, r.vft, r.cost_seconds) for r in limits.heads(connection, where)),
            Served(began, ended),
            aged(vtime, now - vtime_at),
        )
    return queues


def _choose(
    fair_queue: FairQueue, queues: Mapping[str, _TierQueue], limit: int
) -> list[tuple[str, Head]]:
    chosen: list[tuple[str, Head]] = []
    while len(chosen) < limit:
        heads = {tier: queue.heads[0] for tier, queue in queues.items() if queue.heads}
        if not heads:
            break
        served = {tier: queue.served for tier, queue in queues.items()}
        tier = fair_queue.pick(heads, served)
        queue, head = queues[tier], queues[tier].heads.popleft()
        queue.served = fair_queue.after(tier, heads, served)
        queue.vtime = max(queue.vtime, head.vft)
        chosen.append((tier, head))
    return chosen


def _queue_row(lane: str, tier: str, queue: _TierQueue, now: float) -> dict[str, object]:
    return {
        "lane": lane,
        "tier": tier,
        "began": queue.served.began,
        "ended": queue.served.ended,
        "vtime": queue.vtime,
        "now": now,
    }


def _leased(job: Job, worker: str, now: float) -> Job:
    return replace(
        job.on(JobEvent.LEASE),
        fence=job.fence + 1,
        worker=worker,
        started_at=now if job.started_at is None else job.started_at,
    )


def _lease_row(job: Job, claim: Claim, now: float) -> dict[str, object]:
    return {
        "job_id": job.id,
        "lane": claim.lane,
        "tier": job.request.share_tier,
        "tenant": job.request.tenant,
        "images": sum(not render.settled for render in job.renders),
        "passes": job.request.passes,
        "now": now,
        "fence": job.fence,
        "worker": claim.worker,
        "lease_until": now + claim.lease_seconds,
        "lease_seconds": claim.lease_seconds,
        "progress": job.progress,
        "no": False,
    }
