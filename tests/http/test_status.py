"""GET /v1/status: a lane's heat for everybody, read once a second."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import httpx
import pytest

from autoscaling import lane_heat
from autoscaling.lane_heat import LaneHeat
from deployments.metrics.catalogue import OF_LANE, OF_TIER
from deployments.metrics.heat import show_heat
from deployments.metrics.recorder import Metrics
from deployments.metrics.shared_values import SharedValues
from jobs.client.async_ledger import AsyncLedger
from jobs.depth import Depth
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.http_stage import config, stage
from tests.stages.ledger_kit import Clock, wish
from tests.stages.metrics_kit import samples


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
async def test_a_thousand_who_ask_cost_one_reading(
    ledger: SqlLedger, away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_heat, "FRESH_SECONDS", 600.0)  # on a busy machine a second is little
    counted = CountedLedger(ledger)
    counted.away = away
    heat = LaneHeat(counted, "chat")
    answers = await asyncio.gather(*(heat.now() for _ in range(1000)), return_exceptions=True)
    assert counted.read == 1
    assert {isinstance(answer, LedgerUnavailable) for answer in answers} == {away}
    counted.close()


async def test_metrics_show_the_same_heat(ledger: SqlLedger, clock: Clock, tmp_path: Path) -> None:
    ledger.submit(wish(cost_seconds=4.0))
    clock.now += 3.0
    counted = CountedLedger(ledger)
    heat = await LaneHeat(counted, "chat").now()
    counted.close()
    values = SharedValues(tmp_path / "values")
    show_heat(Metrics(values), "chat", heat, ("free", "pro"))  # something waited in pro before
    shown = samples(values)
    values.close()
    of = {"lane": "chat", "tier": "free"}
    assert [shown(one.name, **of) for one in OF_TIER] == [4.0, 1.0, 3.0]
    assert [shown(one.name, **{**of, "tier": "pro"}) for one in OF_TIER] == [0.0, 0.0, 0.0]
    expected = (pytest.approx(math.nan, nan_ok=True),) * 2 + (pytest.approx(4 / 6), 0.0)
    assert tuple(shown(one.name, lane="chat") for one in OF_LANE) == expected


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
