"""What a lane's load looks like in one reading of the ledger."""

from __future__ import annotations

import pytest

from jobs.depth import Depth, TierWaiting
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    picture,
    wish,
)


def test_an_idle_lane(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(lane="api"))
    assert ledger.depth("chat") == Depth(clock.now, {}, 0, 0.0, 0.0, None)


def test_waiting_is_told_by_tier(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(cost_seconds=4.0))
    clock.now += 10.0
    for _ in range(3):
        ledger.submit(wish(tier="plus", tenant="bob", cost_seconds=2.0))
    clock.now += 1.0
    assert ledger.depth("chat").waiting == {
        "free": TierWaiting(1, 4.0, oldest_seconds=11.0),
        "plus": TierWaiting(3, 6.0, oldest_seconds=1.0),
    }


def test_work_of_tenants_at_their_limit_is_no_load(database: Database, clock: Clock) -> None:
    limited = database.open(clock=clock, tiers={"free": Tier(concurrent_renders=1)})
    for seed in range(5):
        limited.submit(wish(cost_seconds=2.0, seed=seed))
    limited.claim("chat", "w", 5, LEASE_SECONDS)
    depth = limited.depth("chat")
    assert depth.waiting == {"free": TierWaiting(0, 0.0, parked_jobs=4)}
    assert (depth.queued_jobs, depth.active_jobs, depth.waiting_seconds) == (4, 1, 0.0)


def test_arrivals_are_those_of_the_last_six_seconds(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(cost_seconds=100.0))
    clock.now += 6.5
    for _ in range(3):
        ledger.submit(wish(cost_seconds=4.0))
        clock.now += 1.0
    ledger.submit(wish(lane="api", cost_seconds=50.0))
    claim_one(ledger)
    assert ledger.depth("chat").arrival_rate == pytest.approx(12.0 / 6.0)
    clock.now += 60.0
    assert ledger.depth("chat").arrival_rate == 0.0


def test_a_clock_that_is_set_back_makes_no_flood(ledger: SqlLedger, clock: Clock) -> None:
    for seed in range(4):
        ledger.submit(wish(cost_seconds=4.0, seed=seed, watched=False))
        job = claim_one(ledger)
        clock.now += 2.0
        ledger.finish_render(job.id, job.fence, 0, picture())
    depth = ledger.depth("chat")
    assert depth.arrival_rate > 0
    assert depth.drawn_rate is not None
    clock.now -= 3_600.0
    ledger.submit(wish(cost_seconds=12.0, seed=9))
    depth = ledger.depth("chat")
    assert (depth.arrival_rate, depth.drawn_rate) == (pytest.approx(12.0 / 6.0), None)


def test_in_a_flood_the_newest_tell_the_rate(
    ledger: SqlLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.sql.depth._ARRIVALS_READ", 8)
    for _ in range(40):
        clock.now += 0.1
        ledger.submit(wish(cost_seconds=3.0, watched=False))
    assert ledger.depth("chat").arrival_rate == pytest.approx(8 * 3.0 / 0.7)


def test_what_is_drawn_counts_while_somebody_is_served(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(3):
        ledger.submit(wish(cost_seconds=4.0, watched=False))
        job = claim_one(ledger)
        clock.now += 2.0
        ledger.finish_render(job.id, job.fence, 0, picture())
        clock.now += 5.0
    ledger.submit(wish(cost_seconds=8.0))
    held = claim_one(ledger)
    clock.now += 2.0
    ledger.renew([beat(held, 8)], LEASE_SECONDS)
    depth = ledger.depth("chat")
    assert depth.drawn_rate == pytest.approx(2.0)
    assert depth.running_seconds == pytest.approx(4.0)


def test_what_is_held_is_unbegun_until_a_decoder_has_it(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(cost_seconds=4.0, watched=False))
    held = claim_one(ledger)
    clock.now += 1.0
    depth = ledger.depth("chat")
    assert depth.unbegun_seconds == depth.running_seconds == 4.0
    ledger.renew([beat(held, 1)], LEASE_SECONDS)
    clock.now += 1.0
    depth = ledger.depth("chat")
    assert depth.unbegun_seconds == 0.0 < depth.running_seconds
