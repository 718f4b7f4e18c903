"""The ledger's stamps and turns are those of fair_queue.py, and what gives way is marked once."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import text

from jobs.lease import PreemptionRequest
from jobs.policy.fair_queue import aged, stamp
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.stages.ledger_kit import LEASE_SECONDS, Clock, Database, beat, wish

TIERS = {"free": Tier(weight=1), "pro": Tier(weight=9)}


@pytest.fixture
def tiered(database: Database, clock: Clock) -> SqlLedger:
    return database.open(clock=clock, tiers=TIERS)


def stamps(ledger: SqlLedger) -> dict[str, float]:
    with ledger._read() as connection:
        return {str(row[0]): float(row[1]) for row in connection.execute(_STAMPS)}


_STAMPS = text("select id, vft from jobs")


def test_stamps_are_those_of_the_pure_rule(tiered: SqlLedger, clock: Clock) -> None:
    draw = random.Random(7)
    vtime, vtime_at = 0.0, clock.now
    last: dict[str, float] = {}
    expected: dict[str, float] = {}
    for _ in range(60):
        clock.now += draw.choice((0.0, 1.0, 300.0))
        if draw.random() < 0.3:
            for job in tiered.claim("chat", "w", 2, 1e6):
                vtime = max(aged(vtime, clock.now - vtime_at), expected[job.id])
                vtime_at = clock.now
        if not expected:
            vtime_at = clock.now  # a lane's time begins with its first job
        tenant, cost = draw.choice("abc"), draw.choice((0.5, 1.0, 4.0))
        job = tiered.submit(wish(tenant=tenant, cost_seconds=cost, watched=False)).job
        now = aged(vtime, clock.now - vtime_at)
        last[tenant] = expected[job.id] = stamp(now, last.get(tenant), cost)
    assert stamps(tiered) == pytest.approx(expected)


def test_whoever_comes_back_keeps_its_stamp(tiered: SqlLedger, clock: Clock) -> None:
    """Given back, lapsed or preempted: the first of its tier again."""
    jobs = [tiered.submit(wish(seed=i, watched=False)).job for i in range(4)]
    before = stamps(tiered)
    released, lapsed = tiered.claim("chat", "w", 2, LEASE_SECONDS)
    tiered.release(released.id, released.fence)
    for _ in range(int(LEASE_SECONDS) + 1):
        clock.now += 1
        tiered.expire()
    assert stamps(tiered) == before
    again = tiered.claim("chat", "w", 4, LEASE_SECONDS)
    assert [job.id for job in again] == [job.id for job in jobs]
    assert [job.fence for job in again] == [3, 3, 1, 1]
    assert lapsed.id == jobs[1].id


def test_tiers_take_turns_by_their_shares(tiered: SqlLedger) -> None:
    for i in range(40):
        for tier in TIERS:
            tiered.submit(wish(tier=tier, tenant=f"{tier} {i}"))
    first = [job.request.tier for job in tiered.claim("chat", "w", 20, LEASE_SECONDS)]
    assert first.count("free") == 2
    idle = [job.request.tier for job in tiered.claim("chat", "w", 60, LEASE_SECONDS)]
    assert idle.count("free") == 60 - 22, "what the others leave is free's"


def test_what_free_took_alone_is_not_held_against_it(tiered: SqlLedger) -> None:
    for i in range(60):
        tiered.submit(wish(tenant=f"free {i}"))
    tiered.claim("chat", "w", 40, LEASE_SECONDS)
    for i in range(40):
        tiered.submit(wish(tier="pro", tenant=f"pro {i}"))
    taken = [job.request.tier for job in tiered.claim("chat", "w", 20, LEASE_SECONDS)]
    assert taken[0] == "pro"
    assert taken.count("free") in (1, 2)


def test_a_slot_that_nobody_has_is_not_cleared(tiered: SqlLedger) -> None:
    """The dispatcher claims while it asks: of the newest job it has not said whether it waits."""
    for i in range(2):
        tiered.submit(wish(tenant=f"free {i}"))
    first, newest = tiered.claim("chat", "w", 2, LEASE_SECONDS)
    tiered.submit(wish(tier="pro"))
    assert tiered.preempt(PreemptionRequest("chat", "w", {}, {first.id: 0.9})) == [], (
        "who has one is nearly done"
    )
    assert tiered.preempt(PreemptionRequest("chat", "w", {}, {first.id: 0.9, newest.id: 0.0})) == [
        newest.id
    ]


def test_slots_are_cleared_once_for_each_job(tiered: SqlLedger) -> None:
    for i in range(6):
        tiered.submit(wish(tenant=f"free {i}"))
    free = tiered.claim("chat", "w", 6, LEASE_SECONDS)
    tiered.renew([beat(job, 1 + i) for i, job in enumerate(free)], LEASE_SECONDS)
    drawing = {job.id: (1 + i) / 8 for i, job in enumerate(free)}
    assert tiered.preempt(PreemptionRequest("chat", "w", {}, drawing)) == [], "no paid job waits"
    tiered.submit(wish(tier="pro"))
    assert tiered.preempt(PreemptionRequest("chat", "w", {}, drawing)) == [free[0].id], (
        "least progress"
    )
    assert tiered.preempt(PreemptionRequest("chat", "other", {}, {})) == [], (
        "one is being preempted already"
    )
    renewals = tiered.renew([beat(job, 8) for job in free[:2]], LEASE_SECONDS)
    assert [renewal.yield_to_tier for renewal in renewals] == ["pro", None]
    tiered.release(free[0].id, free[0].fence)
    (paid,) = tiered.claim("chat", "w", 1, LEASE_SECONDS)
    assert paid.request.tier == "pro"
    (back,) = tiered.claim("chat", "w", 1, LEASE_SECONDS)
    assert (back.id, back.attempts, back.renders[0].pass_no) == (free[0].id, 0, 8)


def test_spared_tenants_are_passed_over_until_one_of_their_jobs_is_let_go(
    tiered: SqlLedger,
) -> None:
    for seed in range(100):
        tiered.submit(wish(tenant="eve", seed=seed, watched=False))
    for seed in range(3):
        tiered.submit(wish(tenant="ada", seed=seed, watched=False))
    (held,) = tiered.claim("chat", "w", 1, LEASE_SECONDS)
    assert held.request.tenant == "eve"
    spared = frozenset({"eve"})
    claimed = [job for _ in range(4) for job in tiered.claim("chat", "w", 2, 1e6, spared)]
    assert [job.request.tenant for job in claimed] == ["ada"] * 3
    assert tiered.claim("chat", "w", 2, LEASE_SECONDS, spared) == []
    tiered.release(held.id, held.fence)
    again = tiered.claim("chat", "w", 2, LEASE_SECONDS)
    assert [job.request.tenant for job in again] == ["eve", "eve"]
    assert again[0].id == held.id
