"""GET /v1/status: a lane's heat for everybody, read once a second."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import httpx
import pytest

from autoscaling.heat_metrics import OF_LANE, OF_TIER, of_lane, of_tier
from autoscaling.lane_heat import LaneHeat
from jobs.client.async_ledger import AsyncLedger
from jobs.depth import Depth
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.http_stage import config, stage
from tests.stages.ledger_kit import Clock, wish


class CountedLedger(AsyncLedger):
    """Counts readings; `away`: there is no answer."""

    def __init__(self, ledger: SqlLedger) -> None:
        super().__init__(ledger)
        self.read = 0
        self.away = False

    async def depth(self, lane: str) -> Depth:
        self.read += 1
        if self.away:
            raise LedgerUnavailable("away")
        return await super().depth(lane)


@pytest.mark.parametrize("away", [False, True])
async def test_a_thousand_who_ask_cost_one_reading(ledger: SqlLedger, away: bool) -> None:
    counted = CountedLedger(ledger)
    counted.away = away
    heat = LaneHeat(counted, "chat")
    answers = await asyncio.gather(*(heat.now() for _ in range(1000)), return_exceptions=True)
    assert counted.read == 1
    assert {isinstance(answer, LedgerUnavailable) for answer in answers} == {away}
    counted.close()


async def test_metrics_show_the_same_heat(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(cost_seconds=4.0))
    clock.now += 3.0
    counted = CountedLedger(ledger)
    heat = await LaneHeat(counted, "chat").now()
    assert list(of_tier(heat, "free").values()) == [4.0, 1.0, 3.0]
    assert of_tier(heat, "pro") == dict.fromkeys(OF_TIER, 0.0), "somebody waited in it before"
    values = (pytest.approx(math.nan, nan_ok=True),) * 2 + (pytest.approx(4 / 6), 0.0)
    assert of_lane(heat) == dict(zip(OF_LANE, values, strict=True))
    counted.close()


def test_status_over_http(tmp_path: Path) -> None:
    settings = config(model={"name": "tokens", "size": "256x256", "pass_seconds": 0.5})
    with stage(tmp_path, settings) as it:
        it.worker.pause()
        url = f"{it.url}/v1/status"
        assert httpx.get(url).status_code == 401
        body = {"prompt": "a red fox", "quality": "low"}
        asks = {**it.headers, "Prefer": "respond-async"}
        for _ in range(3):
            httpx.post(f"{it.url}/v1/images/generations", json=body, headers=asks)
        status = httpx.get(url, headers=it.headers).json()
        tier = status["waiting"]["free"]
        assert (status["object"], status["lane"], status["drain_seconds"]) == (
            "status", "default", None,
        )  # fmt: skip
        assert (tier["jobs"], tier["parked_jobs"]) == (3, 0)
        assert tier["gpu_seconds"] == pytest.approx(4.0 * tier["jobs"])
