from __future__ import annotations

from itertools import accumulate, pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.policies import PolicyNumbers, build_policy
from autoscaling.simulator.clairvoyant import clairvoyant, gpu_seconds, late_share, taut_string
from autoscaling.simulator.simulation import simulate
from autoscaling.simulator.workload import Arrival, ColdStart, Lane
from engine.cost import PassCost

LANE = Lane(
    cost=PassCost(0.0, 5.0),
    slots=1,
    passes=2,
    min_replicas=0,
    max_replicas=100,
    replicas=0,
    cold_start=ColdStart(10.0),
)


def bursts(seed: int, seconds: int = 600) -> list[Arrival]:
    random = Random(seed)
    starts = (at for at in range(0, seconds, 40) if random.random() < 0.6)
    times = (at + random.uniform(0, 10) for at in starts for _ in range(random.randint(1, 60)))
    return [Arrival(at) for at in sorted(times)]


def turning(way: list[float]) -> float:
    """How much the slope changes on the way."""
    slopes = [b - a for a, b in pairwise(way)]
    return sum(abs(b - a) for a, b in pairwise(slopes))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 20)), min_size=2, max_size=40))
def test_a_taut_string_stays_between_and_turns_less_than_either_side(
    steps: list[tuple[int, int]],
):
    lower = [0.0, *accumulate(float(rise) for rise, _ in steps)]
    upper = [low + gap for low, (_, gap) in zip(lower, [(0, 0), *steps], strict=True)]
    upper = [min(height, lower[-1]) for height in accumulate(upper, max)]
    way = taut_string(lower, upper)
    assert len(way) == len(lower)
    assert all(low - 1e-6 <= at <= up + 1e-6 for low, at, up in zip(lower, way, upper, strict=True))
    assert turning(way) <= min(turning(lower), turning(upper)) + 1e-6


def test_a_string_without_walls_is_straight():
    assert taut_string([0, 0, 0, 6], [0, 6, 6, 6]) == [0, 2, 4, 6]


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_hindsight_keeps_the_promise(seed: int):
    arrivals = bursts(seed)
    best = clairvoyant(LANE, arrivals, 60.0)
    assert best is not None
    assert late_share(best, 60.0) <= 0.05
    assert gpu_seconds(best) >= 10.0 * len(arrivals)  # the work itself


def test_hindsight_costs_less_than_foresight():
    """Over many loads together: a single one may be drawn better by luck, for a schedule is near
    the optimum and no bound."""
    policy = build_policy(PolicyNumbers(min_replicas=0, max_replicas=100, wait_seconds=50.0))
    known = foreseen = 0.0
    for arrivals in map(bursts, range(40)):
        best = clairvoyant(LANE, arrivals, 60.0)
        assert best is not None
        known += gpu_seconds(best)
        foreseen += gpu_seconds(simulate(LANE, arrivals, policy))
    assert known < foreseen


def test_what_cannot_be_promised_is_said():
    arrivals = [Arrival(0.1 * n) for n in range(200)]
    narrow = Lane(cost=LANE.cost, slots=1, passes=2, max_replicas=1, cold_start=ColdStart(10.0))
    assert clairvoyant(narrow, arrivals, 60.0) is None
