"""Costs are learned from finished renders, survive everybody, and price the next requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from jobs.costs import ImageCost
from jobs.sql.sql_ledger import SqlLedger
from tests.dispatch.dispatch_kit import world
from tests.dispatch.dispatch_stages import Replica, until
from tests.stages.http_stage import config, stage
from tests.stages.ledger_kit import Database

PIXELS = 256 * 256


def cost(seconds: float, renders: int = 1, passes: int = 16) -> ImageCost:
    return ImageCost("tokens", PIXELS, passes, seconds, renders)


def test_an_average_of_the_newest_survives_its_ledger(database: Database) -> None:
    first = database.open()
    assert first.costs("tokens") == []
    first.learn([cost(2.0, renders=4), cost(1.0, passes=8)])
    first.learn([cost(4.0)])
    first.learn([cost(3.0, renders=1000)])
    second = database.open()
    assert second.costs("tokens") == [cost(pytest.approx(3.0), renders=1005), cost(1.0, passes=8)]  # type: ignore[arg-type]
    assert second.costs("another") == []


def test_one_measurement_moves_it_by_a_tenth_and_a_freak_by_little_more(ledger: SqlLedger) -> None:
    ledger.learn([cost(2.0)])
    ledger.learn([cost(3.0)])
    assert ledger.costs("tokens")[0].seconds == pytest.approx(2.1)
    ledger.learn([cost(1e6)])
    assert ledger.costs("tokens")[0].seconds == pytest.approx(2.1 * 1.3)
    ledger.learn([cost(1e-6)])
    assert ledger.costs("tokens")[0].seconds == pytest.approx(2.1 * 1.3 * 0.925)


def test_many_who_learn_together_lose_nothing(database: Database) -> None:
    ledgers = [database.open() for _ in range(4)]
    news = [cost(2.0), cost(1.0, passes=8), cost(0.5, passes=4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda i: ledgers[i % 4].learn(news[i % 2 :]), range(24)))
    assert {c.passes: c.renders for c in ledgers[0].costs("tokens")} == {16: 12, 8: 24, 4: 24}


async def test_a_dispatcher_passes_on_what_renders_cost(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(2)) as it:
        job = it.submit(n=2)
        it.start(lease_seconds=0.15)
        await it.ended(job)
        await until(lambda: sum(c.renders for c in it.sql.costs("tokens")) == 2, "both are learned")
        (learned,) = it.sql.costs("tokens")
        assert learned.kind == ("tokens", PIXELS, 8)
        assert learned.seconds > 0


def test_a_request_is_priced_by_what_was_learned(tmp_path: Path) -> None:
    settings = config(model={"name": "tokens", "size": "256x256", "pass_seconds": 0.1})
    with stage(tmp_path, settings) as it:
        it.ledger.learn([cost(3.0), cost(2.0, passes=12)])
        made = httpx.post(
            f"{it.url}/v1/images/generations",
            json={"prompt": "a red fox", "n": 2, "quality": "high"},
            headers={**it.headers, "Prefer": "respond-async"},
        )
        job = it.ledger.get(made.json()["id"])
        assert job is not None
        assert job.request.cost_seconds == 6.0
