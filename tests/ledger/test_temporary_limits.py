"""Temporary limits over a real ledger: real queued jobs heat a lane, and drawing them cools it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autoscaling.limits import Threshold, Tightening
from autoscaling.temporary_limits import READING_SECONDS, TemporaryLimits
from jobs.client.async_ledger import AsyncLedger
from jobs.ledger import Ledger
from jobs.ledger_errors import LedgerUnavailable, NotYetOpen, QuotaExceeded
from jobs.limit_levels import LimitChange, LimitLevel
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.stages.ledger_kit import LEASE_SECONDS, Clock, Database, claim_one, picture, wish

HOLD = 2 * READING_SECONDS
FREE = Tightening(images_per_day=1, concurrent_renders=1, rollout="off")
THRESHOLDS = (Threshold(60, 30, HOLD, {"free": FREE}),)
TIERS = {"free": Tier(images_per_day=3), "plus": Tier()}


class Lane:
    """The chat lane: `limits` decide, `gateway` only follows; both are clients of their own."""

    def __init__(self, clock: Clock, ledgers: tuple[Ledger, Ledger]) -> None:
        self.clock = clock
        self.dispatcher, self.gateway = ledgers
        self._clients = [AsyncLedger(ledger) for ledger in ledgers]
        self.limits, self.followed = (
            TemporaryLimits(client, "chat", TIERS, THRESHOLDS) for client in self._clients
        )

    def come(self, jobs: int, seconds: float = 10.0) -> None:
        """Paid work."""
        for seed in range(jobs):
            self.gateway.submit(
                wish(tenant="bob", tier="plus", seed=seed, cost_seconds=seconds, watched=False)
            )

    def draw(self, jobs: int) -> None:
        """One after the other, at a GPU-second a second."""
        for _ in range(jobs):
            job = claim_one(self.dispatcher)
            self.clock.now += job.request.cost_seconds
            self.dispatcher.finish_render(job.id, job.fence, 0, picture())

    async def look(self, readings: int) -> list[int]:
        """The level after each of so many readings."""
        levels = []
        for _ in range(readings):
            self.clock.now += READING_SECONDS
            await self.limits.turn()
            levels.append(self.dispatcher.limit_level("chat")[0].level)
        await self.followed.look()
        return levels

    def ask(self, tenant: str, n: int = 1, tier: str = "free") -> None:
        """As a gateway submits; then the wish is withdrawn."""
        submission = self.gateway.submit(wish(tenant=tenant, tier=tier, n=n, watched=False))
        self.gateway.cancel(submission.job.id)

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def lane(database: Database, clock: Clock) -> Iterator[Lane]:
    with closing(Lane(clock, (database.open(clock=clock), database.open(clock=clock)))) as made:
        yield made


async def test_heat_shrinks_the_free_tier_and_cooling_restores_it(
    lane: Lane, ledger: SqlLedger
) -> None:
    lane.ask("ada", 3)
    lane.come(13)
    lane.draw(3)
    assert await lane.look(2) == [0, 0]
    with pytest.raises(QuotaExceeded) as refused:
        lane.ask("ada", 4)
    assert refused.value.usage.limit == 3, "the usual limit, while the heat has not held"
    assert await lane.look(2) == [1, 1]
    entered = lane.clock.now - READING_SECONDS
    assert ledger.limit_changes("chat", 10) == [
        LimitChange(entered, 0, 1, "100 s of work were ahead, over 60 s for 4 s", 100.0)
    ]

    with pytest.raises(QuotaExceeded) as refused:
        lane.ask("ada", 2)
    assert refused.value.usage.limit == 1
    lane.ask("ada")
    with pytest.raises(NotYetOpen, match="open to 0 %"):
        lane.ask("zoe")
    lane.ask("bob", 10, tier="plus")

    lane.draw(6)
    assert await lane.look(5) == [1] * 5, "40 s are no reason for a change"
    lane.draw(2)
    assert await lane.look(3) == [1, 1, 0]
    assert ledger.limit_changes("chat", 10)[0] == LimitChange(
        lane.clock.now, 1, 0, "20 s of work were ahead, under 30 s for 4 s", 20.0
    )
    lane.ask("zoe", 3)
    assert len(ledger.limit_changes("chat", 10)) == 2
    assert ledger.limit_changes("api", 10) == []


async def test_tightened_concurrency_holds_for_claims(lane: Lane) -> None:
    lane.come(13)
    lane.draw(3)
    for seed in range(2):
        lane.gateway.submit(wish(seed=seed, watched=False))
    assert (await lane.look(3))[-1] == 1
    claimed = lane.dispatcher.claim("chat", "w1", 20, LEASE_SECONDS)
    assert [job.request.tenant for job in claimed].count("ada") == 1


async def test_the_level_outlives_those_who_decide(lane: Lane, database: Database) -> None:
    lane.come(13)
    lane.draw(3)
    await lane.look(3)
    lane.clock.now += 3600
    later = AsyncLedger(database.open(clock=lane.clock))
    with closing(later):
        limits = TemporaryLimits(later, "chat", TIERS, THRESHOLDS)
        await limits.look()
        temporary = limits.of("free")
        assert temporary is not None
        assert (temporary.usual, temporary.now.images_per_day) == (TIERS["free"], 1)
        assert limits.of("plus") is None
        await limits.turn()
        assert limits.of("free"), "at what rate is drawn is not known: the level holds"
        limits.adopt(TIERS, ())
        assert limits.of("free") is None
        await limits.turn()
        changes = database.open().limit_changes("chat", 1)
        assert changes[0].reason == "only 0 thresholds are configured now"


async def test_several_deciders_log_each_change_once(
    lane: Lane, database: Database, ledger: SqlLedger
) -> None:
    other = AsyncLedger(database.open(clock=lane.clock))
    with closing(other):
        second = TemporaryLimits(other, "chat", TIERS, THRESHOLDS)
        lane.come(13)
        lane.draw(3)
        for drawn in (0, 10):
            lane.draw(drawn)
            for _ in range(4):
                lane.clock.now += READING_SECONDS
                await asyncio.gather(lane.limits.turn(), second.turn())
    changes = ledger.limit_changes("chat", 10)
    assert [(change.from_level, change.to_level) for change in changes] == [(1, 0), (0, 1)]


def test_a_decision_on_an_old_reading_changes_nothing(ledger: SqlLedger) -> None:
    first = LimitLevel(1, 5.0, "hot", 90.0, 5.0, 1.0)
    assert ledger.move_limits("chat", LimitLevel(), first)
    assert not ledger.move_limits("chat", LimitLevel(), LimitLevel(1, 6.0, "hot", 95.0, 6.0, 1.0))
    assert ledger.limit_level("chat")[0] == first
    assert len(ledger.limit_changes("chat", 10)) == 1


async def test_an_idle_lane_writes_nothing(lane: Lane, ledger: SqlLedger) -> None:
    assert await lane.look(3) == [0, 0, 0]
    assert ledger.limit_level("chat")[0] == LimitLevel()


async def test_while_nothing_can_be_written_the_level_holds(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db?timeout=0.1"
    with closing(Lane(clock, (SqlLedger(url, clock=clock), SqlLedger(url, clock=clock)))) as lane:
        lane.come(13)
        lane.draw(3)
        assert await lane.look(3) == [0, 0, 1]
        lane.draw(10)
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            other.execute("begin immediate")
            clock.now += READING_SECONDS
            with pytest.raises(LedgerUnavailable):
                await lane.limits.turn()
        assert lane.limits.of("free")
