from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from random import Random

import pytest

from autoscaling.policies import PolicyNumbers, build_policy
from autoscaling.simulator.clairvoyant import gpu_seconds, late_share
from autoscaling.simulator.simulation import simulate
from autoscaling.simulator.workload import Arrival, ColdStart, Lane
from engine.cost import PassCost
from scripts.policies.loads import sparse_loads, tailed_loads, variation
from scripts.policies.lower_bound import lower_bound

LANE = Lane(
    cost=PassCost(0.0, 1.0),
    slots=1,
    passes=2,
    min_replicas=0,
    max_replicas=100,
    replicas=0,
    cold_start=ColdStart(3.0),
)
MINUTE_LANE = replace(LANE, cost=PassCost(0.0, 5.0), passes=4, cold_start=ColdStart(10.0))


def cheapest(arrivals: Sequence[Arrival], wait: int, may_be_late: int) -> float:
    """By trying every second at which each picture may begin: GPU-seconds of pictures of 2 s with a
    cold start of 3 s. A replica is kept over a gap where that is cheaper than another start."""
    horizon = 12
    pictures = [job for job, one in enumerate(arrivals) for _ in range(one.images)]
    starts = [range(int(arrivals[job].at), horizon) for job in pictures]
    best = float("inf")
    for begins in product(*starts):
        first = dict.fromkeys(pictures, horizon)
        for job, begin in zip(pictures, begins, strict=True):
            first[job] = min(first[job], begin)
        if sum(first[job] > one.at + wait for job, one in enumerate(arrivals)) <= may_be_late:
            best = min(best, paid(begins))
    return best


def paid(begins: Iterable[int]) -> float:
    busy = [0] * 16
    for begin in begins:
        busy[begin] += 1
        busy[begin + 1] += 1
    total = 0.0
    for level in range(1, max(busy) + 1):
        ons = [at for at, count in enumerate(busy) if count >= level]
        gaps = (after - before - 1 for before, after in pairwise(ons))
        total += len(ons) + 3.0 + sum(min(gap, 3.0) for gap in gaps)
    return total


@pytest.mark.parametrize("seed", range(8))
def test_no_schedule_of_a_small_instance_costs_less(seed: int) -> None:
    random = Random(seed)
    times = sorted(random.randint(0, 5) for _ in range(2 + seed % 2))
    arrivals = [Arrival(float(at), images=random.randint(1, 2) if n else 1) for n, at in
                enumerate(times)][:3]  # fmt: skip
    wait, may_be_late = random.randint(0, 3), seed % 2
    bound = lower_bound(
        LANE, arrivals, wait, late_share=may_be_late / len(arrivals), step_seconds=1.0
    )
    assert 2.0 * sum(one.images for one in arrivals) < bound
    assert bound <= cheapest(arrivals, wait, may_be_late) + 1e-6


def test_a_burst_that_may_not_wait_needs_a_start_for_each_picture() -> None:
    burst = [Arrival(0.0) for _ in range(100)]
    assert lower_bound(LANE, burst, 0.0, late_share=0.0, step_seconds=1.0) == pytest.approx(500)
    assert lower_bound(LANE, burst, 8.0, late_share=0.0, step_seconds=1.0) == pytest.approx(
        200 * (1 + 3 / 10)
    )  # 10 s on each of 20 replicas
    assert lower_bound(LANE, burst, 8.0, late_share=0.5, step_seconds=1.0) < 245


def test_a_finer_grid_raises_the_bound_at_most() -> None:
    load = [Arrival(n * 7.3 % 40, images=1 + n % 3) for n in range(30)]
    load.sort(key=lambda one: one.at)
    coarse, fine = (lower_bound(LANE, load, 4.0, step_seconds=step) for step in (2.0, 1.0))
    assert coarse <= fine + 1e-6


@pytest.mark.parametrize("load", [*sparse_loads(1)][1:], ids=lambda load: load[0])
def test_our_policy_keeps_a_promise_within_a_quarter_of_the_bound(
    load: tuple[str, Sequence[Arrival]],
) -> None:
    arrivals = [one for one in load[1] if one.at < 3600]
    policy = build_policy(PolicyNumbers(min_replicas=0, max_replicas=100))
    outcome = simulate(MINUTE_LANE, arrivals, policy)
    bound = lower_bound(MINUTE_LANE, arrivals, 60.0)
    assert late_share(outcome, 60.0) <= 0.05
    assert bound <= gpu_seconds(outcome) <= 1.25 * bound


def test_what_the_proof_does_not_cover_is_refused_by_name() -> None:
    for wrong in ({"slots": 4}, {"replicas": 1}, {"cold_start": ColdStart(10.0, 20.0)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            lower_bound(replace(LANE, **wrong), [Arrival(0.0)], 60.0)  # type: ignore[arg-type]


def test_drawn_loads_are_the_same_every_time_and_have_heavy_tails() -> None:
    once, again = dict(tailed_loads(1)), dict(tailed_loads(1))
    assert once == again
    assert max(variation(load) for load in once.values()) > 10
    single = [one.images == 1 for load in once.values() for one in load]
    assert 0.45 < sum(single) / len(single) < 0.55
