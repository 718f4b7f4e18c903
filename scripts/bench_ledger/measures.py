"""The figures of one ledger, each by one function that leaves the ledger usable for the next."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from jobs.client.async_ledger import AsyncLedger
from jobs.request import ImageRequest, Tenant
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from scripts.bench_ledger.backlog import LANE, submit_all, wish
from scripts.load import percentile
from serve_app.access.tokens import mint, verify

LEASE_SECONDS = 3600.0
TIERS = {"free": Tier(weight=1.0, images_per_day=1_000_000)}
_FEW, _MANY = 8, 200


def claim_p95_ms(ledger: SqlLedger, claims: int) -> float:
    """95th percentile of a claim of eight jobs, commit and fsync included."""
    return percentile(
        [1000 * _seconds_of_claim(ledger, _FEW) for _ in range(claims)],
        95,
    )


def drain_jobs_per_s(ledger: SqlLedger, jobs: int) -> float:
    """Claims only, in batches of 200, by one client."""
    began = time.perf_counter()
    for _ in range(jobs // _MANY):
        _seconds_of_claim(ledger, _MANY)
    return jobs / (time.perf_counter() - began)


def _seconds_of_claim(ledger: SqlLedger, limit: int) -> float:
    began = time.perf_counter()
    jobs = ledger.claim(LANE, "bench", limit, LEASE_SECONDS)
    seconds = time.perf_counter() - began
    assert len(jobs) == limit, "the backlog was too short"
    return seconds


def enqueue_per_s(ledger: SqlLedger, jobs: int, callers: int) -> float:
    """Submits with quota and an idempotency key by many callers of one process, all committed."""
    return _per_second(
        AsyncLedger(ledger),
        jobs,
        callers,
        lambda i: wish(f"sender-{i % 97}", idempotency_key=f"key-{i}"),
    )


def signups_per_s(ledger: SqlLedger, people: int, callers: int) -> float:
    """First submits of tenants that nobody knows, each with a signed token that is verified."""
    secrets = {"k1": b"0123456789abcdef0123456789abcdef"}
    until = time.time() + 3600
    tokens = [mint(Tenant(f"new-{i}", "free"), until, "k1", secrets["k1"]) for i in range(people)]

    def order(number: int) -> ImageRequest:
        tenant = verify(tokens[number], secrets, time.time())
        return wish(tenant.id, tier=tenant.tier)

    return _per_second(AsyncLedger(ledger), people, callers, order)


def _per_second(
    front: AsyncLedger, jobs: int, callers: int, order: Callable[[int], ImageRequest]
) -> float:
    began = time.perf_counter()
    asyncio.run(submit_all(front, jobs, callers, order))
    return jobs / (time.perf_counter() - began)


def start_latency_p50_ms(producer: SqlLedger, consumer: SqlLedger, times: int) -> float:
    """Median from the call of `submit` to the claim of another client that waits for news."""
    lane = "idle"

    async def run() -> float:
        front, back = AsyncLedger(producer), AsyncLedger(consumer)
        found = [await _one_start(front, back, lane, i) for i in range(times)]
        return 1000 * statistics.median(found)

    return asyncio.run(run())


async def _one_start(front: AsyncLedger, back: AsyncLedger, lane: str, i: int) -> float:
    waiting = asyncio.create_task(_claim_when_there(back, lane))
    await asyncio.sleep(0.1)  # idle, as at night
    began = time.perf_counter()
    await front.submit(wish(f"early-{i}", lane=lane))
    return await waiting - began


async def _claim_when_there(back: AsyncLedger, lane: str) -> float:
    """As a dispatcher does: look at the version, claim, wait until somebody wrote."""
    while True:
        seen = await back.version()
        if await back.claim(lane, "bench", 1, LEASE_SECONDS):
            return time.perf_counter()
        await back.changed(seen, 1.0)
