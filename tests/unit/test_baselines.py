from __future__ import annotations

from collections.abc import Callable

import pytest

from autoscaling.policy import LoadSnapshot, Policy, TierLoad
from autoscaling.simulator.baselines import BASELINES, Requests, baseline, ray_policy

REQUESTS = Requests(picture_seconds=10.0, slots=2)


def load(at: float, waiting: int, drawing: int, target: int) -> LoadSnapshot:
    """`waiting` pictures wait, so that the slots are taken; or nobody does, and nothing runs."""
    queue = {"free": TierLoad(waiting, 10.0 * waiting)} if waiting else {}
    return LoadSnapshot(at, queue, 10.0 * drawing if waiting else 0.0, 0.0, drawing, target)


def run(
    policy: Policy, waiting: Callable[[float], int], seconds: int, first: int
) -> list[tuple[int, int]]:
    """When the target changed, and to what; replicas draw at once."""
    target, changes = first, list[tuple[int, int]]()
    for at in range(seconds):
        wanted = policy(load(at, waiting(at), target, target)).replicas
        if wanted != target:
            target = wanted
            changes.append((at, target))
    return changes


def test_rays_own_policy_waits_for_its_delays_on_the_simulated_clock():
    policy = baseline("ray-default", REQUESTS, least=1, most=100)
    changes = run(policy, lambda at: 8 if at < 70 else 0, seconds=800, first=4)
    # Eight wait beside eight in progress: twice as many, after 30 s; back after 600 s.
    assert changes[0] == (30, 8)
    assert changes[-1][1] == 1
    assert 670 <= changes[-1][0] <= 710


def test_rays_delays_can_be_set():
    policy = ray_policy(REQUESTS, 2.0, upscale_delay_s=0.0, downscale_delay_s=60.0)
    changes = run(policy, lambda at: 8 if at < 70 else 0, seconds=200, first=4)
    assert changes[0] == (0, 8)
    assert 130 <= changes[-1][0] <= 200


def test_knative_panics_at_once_and_comes_down_after_a_minute():
    policy = baseline("knative", REQUESTS, least=1, most=100)
    changes = run(policy, lambda at: 100 if at == 10 else 0, seconds=120, first=1)
    assert changes[0][0] == 10
    assert changes[0][1] > 4
    assert all(at > 70 for at, _ in changes[1:])


def test_hpa_tolerates_ten_percent_and_doubles_at_most():
    policy = baseline("hpa", REQUESTS, least=1, most=100)
    assert policy(load(0, 2, 20, 20)).replicas == 20
    assert policy(load(15, 400, 20, 20)).replicas == 40
    assert policy(load(16, 400, 20, 40)).replicas == 40


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_keep_their_bounds_and_come_back_from_zero(name: str):
    policy = baseline(name, REQUESTS, least=0, most=5)
    assert 1 <= policy(load(0, 1, 0, 0)).replicas <= 5
    assert 1 <= policy(load(60, 500, 2, 2)).replicas <= 5
