from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from autoscaling.simulator.workload import Arrival
from scripts.policies import measures
from scripts.policies.__main__ import Beside
from scripts.policies.loads import smooth_load, tailed_loads
from scripts.policies.measures import MINUTE, Run, lane

LANE = lane(10.0)


@pytest.fixture(scope="module")
def load() -> Sequence[Arrival]:
    """Twenty minutes of gaps with a CV of 4."""
    return [one for one in next(tailed_loads(1))[1] if one.at < 1200]


def test_ours_beside_another_policy_waits_no_longer_and_hardly_less(load: Sequence[Arrival]):
    minute = measures.ours(LANE, load, MINUTE)
    assert measures.no_later(LANE, load, minute.p95) == minute
    shorter = measures.ours(LANE, load, replace(MINUTE, wait_seconds=37.0))
    found = measures.no_later(LANE, load, shorter.p95)
    assert found is not None
    assert 0.85 * shorter.p95 <= found.p95 <= shorter.p95
    assert measures.no_later(LANE, load, 1.0) is None


def test_ray_tuned_keeps_the_promise_and_costs_less_than_with_its_defaults(
    load: Sequence[Arrival],
):
    default, _ = measures.beside_baseline("ray-default", LANE, load)
    tuned = measures.tuned_ray(LANE, load, 60.0)
    assert tuned is not None
    assert tuned.p95 <= 60.0
    assert tuned.gpu_hours < default.gpu_hours
    assert measures.tuned_ray(LANE, load, 1.0) is None


def test_the_promise_holds_where_many_tenants_share_a_standing_queue(tmp_path: Path):
    """A smooth load: those that ask for most wait behind the others."""
    _, smooth = smooth_load(tmp_path)
    run = measures.ours(LANE, [one for one in smooth if one.at < 1800], MINUTE)
    assert run.p95 <= 60.0


def test_a_rival_that_cannot_be_compared_with_is_no_worst_case():
    run = Run(1.0, 50.0, 0.9)
    row = Beside("load", 1.0, run, Run(2.0, 40.0, 0.9), tuned=None, fair=None)
    assert (row.ray_over_ours, row.tuned_over_ours) == (float("inf"), float("inf"))
    row = replace(row, tuned=Run(1.5, 60.0, 0.9), fair=Run(1.25, 40.0, 0.9))
    assert (row.ray_over_ours, row.tuned_over_ours) == (1.6, 1.5)
