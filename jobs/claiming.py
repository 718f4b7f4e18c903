"""Taking the next jobs of a lane under a lease, in fair order. Part of SqlLedger."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, text

from jobs import statements as sql
from jobs.fair_queue import FairQueue, Head
from jobs.job import Job, JobEvent
from jobs.records import load_jobs, store_jobs
from jobs.sqlite import SKIP_LOCKED

_HEADS = text(sql.HEADS + SKIP_LOCKED)
# What was served fades, so that a tier which was idle comes back with a bounded claim, not with
# the right to everything that it did not use.
_HALF_LIFE_SECONDS = 60.0


@dataclass(slots=True)
class _TierQueue:
    """One tier's next jobs, and what it has lately been given."""

    heads: deque[Head]
    charged: frozenset[str]  # ids that were charged by an earlier claim
    served_seconds: float


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants how many jobs of which lane, and for how long at a time."""

    lane: str
    worker: str
    limit: int
    lease_seconds: float


def claim_jobs(
    connection: Connection, fair_queue: FairQueue, claim: Claim, now: float
) -> list[Job]:
    """See Ledger.claim; inside the caller's transaction."""
    queues = _tier_queues(connection, claim, now)
    chosen = _choose(fair_queue, queues, claim.limit)
    if not chosen:
        return []
    for tier, (queue, taken) in _taken(queues, chosen).items():
        where = {"lane": claim.lane, "tier": tier, "now": now}
        served = {"served": queue.served_seconds, "vft": max(head.vft for head in taken)}
        connection.execute(sql.SERVED, where | served)
    found = load_jobs(connection, [head.job_id for _, head in chosen])
    jobs = [_leased(found[head.job_id], claim.worker, now) for _, head in chosen]
    store_jobs(connection, [(found[job.id], job) for job in jobs])
    leases = [_lease_row(job, claim, now) for job in jobs]
    connection.execute(sql.NEW_LEASE, leases)
    return jobs


def _tier_queues(connection: Connection, claim: Claim, now: float) -> dict[str, _TierQueue]:
    queues: dict[str, _TierQueue] = {}
    tiers = connection.execute(sql.TIERS_OF_LANE, {"lane": claim.lane}).all()
    for tier, served, served_at in tiers:
        where = {"lane": claim.lane, "tier": tier, "now": now, "limit": claim.limit}
        rows = connection.execute(_HEADS, where).all()
        if rows:
            faded = served * 0.5 ** (max(0.0, now - served_at) / _HALF_LIFE_SECONDS)
            queues[tier] = _TierQueue(
                heads=deque(Head(row.id, row.vft, row.cost_seconds) for row in rows),
                charged=frozenset(row.id for row in rows if row.fence > 0),
                served_seconds=faded,
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
        served = {tier: queue.served_seconds for tier, queue in queues.items()}
        tier = fair_queue.pick(heads, served)
        head = queues[tier].heads.popleft()
        if head.job_id not in queues[tier].charged:
            queues[tier].served_seconds += head.cost_seconds
        chosen.append((tier, head))
    return chosen


def _taken(
    queues: Mapping[str, _TierQueue], chosen: list[tuple[str, Head]]
) -> dict[str, tuple[_TierQueue, list[Head]]]:
    taken: dict[str, tuple[_TierQueue, list[Head]]] = {}
    for tier, head in chosen:
        taken.setdefault(tier, (queues[tier], []))[1].append(head)
    return taken


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
        "fence": job.fence,
        "worker": claim.worker,
        "lease_until": now + claim.lease_seconds,
        "lease_seconds": claim.lease_seconds,
        "progress": job.progress,
        "no": False,
    }
