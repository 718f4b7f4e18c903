"""Heat is work over pace, and its trend is how that changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaling.heat import HeatMeter, drain_seconds, load_snapshot, slope
from autoscaling.policy import TierLoad
from jobs.depth import Depth, TierWaiting

BUSY = Depth(
    read_at=100.0,
    waiting={"free": TierWaiting(10, 40.0, 12.0), "plus": TierWaiting(0, 0.0, parked_jobs=3)},
    active_jobs=2,
    running_seconds=8.0,
    arrival_rate=6.0,
    drawn_rate=4.0,
)


def test_drain_time_is_work_over_the_measured_rate() -> None:
    heat = HeatMeter().read(BUSY)
    assert (heat.render_rate, heat.drain_seconds, heat.trend) == (4.0, 12.0, None)


def test_replicas_say_the_rate_where_they_are_known() -> None:
    assert HeatMeter().read(BUSY, replicas=8).drain_seconds == 6.0
    assert HeatMeter().read(BUSY, replicas=8, rate=0.5).drain_seconds == 12.0


def test_an_idle_lane_has_not_become_slower() -> None:
    meter = HeatMeter()
    idle = replace(BUSY, drawn_rate=None)
    assert meter.read(idle).drain_seconds is None
    meter.read(BUSY)
    assert meter.read(replace(idle, read_at=500.0)).drain_seconds == 12.0


@pytest.mark.parametrize(("work", "rate", "drain"), [(0, None, 0.0), (5, None, None), (5, 0, None)])
def test_nobody_knows_how_long_work_lasts_that_nobody_draws(
    work: float, rate: float | None, drain: float | None
) -> None:
    assert drain_seconds(work, rate) == drain


def test_the_trend_is_of_the_last_half_minute() -> None:
    meter = HeatMeter()
    for second in range(60):  # falling for half a minute, then growing by half a second a second
        running = 100.0 - second if second < 30 else 70.0 + (second - 30) * 2.0
        heat = meter.read(
            replace(BUSY, read_at=100.0 + second, waiting={}, running_seconds=running)
        )
        if second == 29:
            assert heat.trend == pytest.approx(-0.25)
    assert heat.trend == pytest.approx(0.5, abs=0.05)


def test_a_clock_that_goes_back_begins_a_new_trend() -> None:
    meter = HeatMeter()
    meter.read(BUSY)
    assert meter.read(replace(BUSY, read_at=50.0)).trend is None
    assert slope([(1.0, 2.0), (1.0, 3.0)]) is None


def test_a_snapshot_leaves_out_tiers_that_only_wait_for_themselves() -> None:
    snapshot = load_snapshot(BUSY, replicas=2, target=3, cold_start_seconds=20.0)
    assert snapshot.waiting == {"free": TierLoad(10, 40.0, 12.0)}
    assert (snapshot.at, snapshot.replicas, snapshot.target) == (100.0, 2, 3)
    assert (snapshot.cold_start_seconds, snapshot.drain_seconds) == (20.0, 24.0)
