"""Readings of the load reach the ledger as they were taken."""

from __future__ import annotations

from contextlib import closing

import pytest

from autoscaling.heat import Heat
from autoscaling.lane_heat import LaneHeat
from autoscaling.recorder import LoadRecorder, load_sample
from jobs.client.async_ledger import AsyncLedger
from jobs.depth import TierWaiting
from jobs.history import DecoderCounts, LoadSample
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import Clock, wish


def test_what_is_kept_of_a_reading() -> None:
    waiting = {"free": TierWaiting(3, 6.0, 9.0, parked_jobs=2), "pro": TierWaiting(1, 0.5)}
    heat = Heat(100.0, waiting, 2.0, 0.25, 1.5, 8.5 / 1.5)
    assert load_sample(heat, DecoderCounts(2, 1)) == LoadSample(
        100.0, {"free": 5, "pro": 1}, 6.5, 2.0, 0.25, 1.5, pytest.approx(5.667), 2, 1
    )
    unknown = load_sample(Heat(100.0, {}, 0.0, 0.0, None, None), DecoderCounts())
    assert (unknown.render_rate, unknown.drain_seconds, unknown.running) == (None, None, None)


async def test_a_turn_keeps_the_load_as_it_is_now(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(cost_seconds=4.0))
    with closing(AsyncLedger(ledger)) as opened:
        await LoadRecorder(
            opened, LaneHeat(opened, "chat"), "chat", lambda: DecoderCounts(3, 0)
        ).turn()
        (kept,) = (await opened.history("chat", 60.0, 10)).samples
    assert (kept.waiting_seconds, kept.waiting_jobs, kept.running) == (4.0, {"free": 1}, 3)
