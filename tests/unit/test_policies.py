from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaling.policies import PolicyNumbers, build_policy
from autoscaling.policies.drain import DrainTarget
from autoscaling.policies.forecast import Forecast
from autoscaling.policies.wrappers import Bounded, Panicking, Stabilised, Stepped, WithBatches
from autoscaling.policy import Cause, Decision, LoadSnapshot, Policy, TierLoad
from jobs.policy.fair_queue import FairQueue
from jobs.tiers import Tier

TIERS = {"free": Tier(weight=1), "pro": Tier(weight=3)}


def snapshot(
    at: float = 0.0,
    waiting: Mapping[str, TierLoad] | None = None,
    running: float = 0.0,
    rate: float = 0.0,
    target: int = 0,
) -> LoadSnapshot:
    return LoadSnapshot(at, waiting or {}, running, rate, target, target)


def queue(seconds: float, oldest: float = 0.0) -> TierLoad:
    return TierLoad(math.ceil(seconds), seconds, oldest)


def drain(**numbers: float) -> PolicyNumbers:
    return PolicyNumbers(**{"min_replicas": 0, "max_replicas": 1000, **numbers})  # type: ignore[arg-type]


def asking(*replicas: int) -> Policy:
    """A policy that asks for these numbers, one after the other."""
    answers = iter(replicas)
    return lambda _: Decision(next(answers), "asked")


def follow(policy: Policy, snapshots: Sequence[LoadSnapshot]) -> list[int]:
    return [policy(shown).replicas for shown in snapshots]


amounts = st.floats(0, 1e6)
loads = st.builds(
    LoadSnapshot,
    at=st.just(0.0),
    waiting=st.dictionaries(
        st.sampled_from(["free", "pro", "unknown"]),
        st.builds(TierLoad, st.integers(1, 10**6), amounts, amounts),
    ),
    running_seconds=amounts,
    arrival_rate=amounts,
    replicas=st.integers(0, 1000),
    target=st.integers(0, 1000),
    render_rate=st.floats(0.01, 100),
    cold_start_seconds=st.floats(0, 1000),
)
stories = st.lists(st.tuples(st.floats(0, 100), loads), max_size=8)
numbers = st.builds(
    PolicyNumbers,
    policy=st.sampled_from(["drain", "ongoing", "static"]),
    min_replicas=st.integers(0, 5),
    max_replicas=st.integers(5, 50),
    wait_seconds=st.floats(0.1, 1000),
    tier_wait_seconds=st.dictionaries(st.sampled_from(["free", "pro"]), st.floats(0.1, 1000)),
    horizon_seconds=st.floats(0, 100),
    smoothing_seconds=st.floats(0, 100),
    idle_cold_starts=st.floats(0, 5),
    step_up=st.none() | st.integers(1, 10),
    step_down=st.none() | st.integers(1, 10),
)


def told(story: Sequence[tuple[float, LoadSnapshot]], policy: Policy, first: int) -> list[Decision]:
    """Its decisions, each of which is the target at the next snapshot."""
    at, target, decisions = 0.0, first, list[Decision]()
    for passed, load in story:
        at += passed
        decisions.append(policy(replace(load, at=at, target=target)))
        target = decisions[-1].replicas
    return decisions


@given(numbers, stories)
def test_bounds_always_hold(given_numbers: PolicyNumbers, story: list[tuple[float, LoadSnapshot]]):
    first = given_numbers.min_replicas
    for decision in told(story, build_policy(given_numbers, FairQueue(TIERS)), first):
        assert type(decision.replicas) is int
        assert given_numbers.min_replicas <= decision.replicas <= given_numbers.max_replicas


@given(numbers, stories)
def test_the_same_snapshots_give_the_same_decisions(
    given_numbers: PolicyNumbers, story: list[tuple[float, LoadSnapshot]]
):
    once, again = (told(story, build_policy(given_numbers, FairQueue(TIERS)), 1) for _ in range(2))
    assert once == again


@pytest.mark.parametrize(
    ("policy", "target", "cause"),
    [
        (Bounded(asking(1), 2, 5), 2, Cause.MIN),
        (Bounded(asking(9), 2, 5), 2, Cause.MAX),
        (Bounded(asking(3), 2, 5), 2, Cause.DEMAND),
        (Stepped(asking(9), 2, None, 10.0), 1, Cause.STEP),
        (Panicking(asking(1), asking(1), 1.0, 10.0), 4, Cause.BURST),
        (build_policy(PolicyNumbers(policy="static", max_replicas=3)), 1, Cause.STATIC),
        (build_policy(drain()), 5, Cause.ENOUGH),
    ],
)
def test_a_decision_names_what_had_the_last_word(policy: Policy, target: int, cause: Cause) -> None:
    burst = snapshot(target=target, rate=100.0 if cause is Cause.BURST else 0.0)
    assert policy(burst).cause is cause


def test_a_replica_that_was_needed_a_moment_ago_is_kept_for_that_cause() -> None:
    policy = Stabilised(asking(4, 1), lambda _: 10.0)
    causes = [policy(snapshot(at, target=4)).cause for at in (0.0, 1.0)]
    assert causes == [Cause.DEMAND, Cause.KEPT]


@given(stories)
def test_zero_replicas_only_while_nothing_waits_or_runs(story: list[tuple[float, LoadSnapshot]]):
    for (_, load), decision in zip(story, told(story, build_policy(drain()), 0), strict=True):
        if load.waiting_seconds > 0 or load.running_seconds > 0:
            assert decision.replicas > 0


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([(5.0, 20), (60.0, 2)]), st.integers(20, 200))
def test_noise_around_a_constant_load_does_not_make_it_flap(
    seed: int, wait_and_turns: tuple[float, int], load: int
):
    """A fluid queue under a rate that jitters by 20 %: once it has settled, few changes of
    direction in ten minutes; more where half a cold start of patience has to do."""
    wait, most_turns = wait_and_turns
    random = Random(seed)
    policy = build_policy(drain(wait_seconds=wait, horizon_seconds=30.0))
    waiting, target, directions = 0.0, load, list[int]()
    for second in range(1200):
        rate = load * random.uniform(0.8, 1.2)
        waiting = max(0.0, waiting + rate - target)
        oldest = min(waiting / load, second)
        shown = snapshot(second, {"free": queue(waiting, oldest)}, target, rate, target)
        before, target = target, policy(shown).replicas
        if second >= 600 and target != before:
            directions.append(1 if target > before else -1)
    turns = sum(one != other for one, other in pairwise(directions))
    assert turns <= most_turns


def test_the_first_job_asks_at_once_and_the_last_replica_goes_a_while_after():
    policy = build_policy(drain())
    job = {"free": queue(20.0)}
    assert policy(snapshot(0)).replicas == 0
    assert policy(snapshot(1, job, target=0)).replicas == 1
    assert policy(snapshot(20, running=5.0, target=1)).replicas == 1
    assert policy(snapshot(34, target=1)).replicas == 1
    assert policy(snapshot(36, target=1)).replicas == 0


def test_a_queue_is_drawn_while_its_first_job_is_still_patient():
    policy = DrainTarget(lambda _: 60.0, FairQueue({}))
    assert policy.need(snapshot(0, {"free": queue(600, 0)}, target=100)).replicas == 9
    assert policy.need(snapshot(0, {"free": queue(600, 20)}, target=100)).replicas == 12
    assert policy.need(snapshot(0, {"free": queue(600, 500)}, target=100)).replicas == 13


def test_what_is_held_and_waits_for_a_slot_needs_replicas_too():
    policy = DrainTarget(lambda _: 10.0, FairQueue({}))
    held = replace(snapshot(0, running=60.0, target=1), unbegun_seconds=60.0)
    assert policy.need(held).replicas == 3
    assert policy.need(replace(held, unbegun_seconds=0.0)).replicas == 1


def test_what_starts_now_misses_a_cold_start():
    policy = DrainTarget(lambda _: 30.0, FairQueue({}))
    there = policy.need(snapshot(0, {"free": queue(400)}, target=100)).replicas
    cold = policy.need(snapshot(0, {"free": queue(400)}, target=0)).replicas
    assert (there, cold) == (10, 14)


def test_a_tier_waits_for_its_own_work_and_for_what_other_shares_take_meanwhile():
    waits = {"free": 600.0, "pro": 30.0}
    policy = DrainTarget(waits.__getitem__, FairQueue(TIERS))
    # pro has 3/4 of the lane: its 300 s are drawn with 100 s of free, in 30 s and the horizon.
    flood = snapshot(0, {"free": queue(9000), "pro": queue(300)}, target=100)
    assert policy.need(flood).replicas == math.ceil(9300 / 610)
    paid = snapshot(0, {"free": queue(3000), "pro": queue(300)}, target=100)
    assert policy.need(paid) == Decision(10, "for tier pro within 30 s")


def test_a_small_tier_waits_for_what_keeps_coming_to_the_others():
    def settled(others: float) -> int:
        """Replicas for one GPU's worth of free work, beside so much that never has to wait."""
        policy = DrainTarget(lambda _: 60.0, FairQueue(TIERS))
        shown = [
            snapshot(second, {"free": queue(30, 30)}, rate=1 + others, target=100)
            for second in range(120)
        ]
        for each in shown:
            policy(each)
        return policy.need(shown[-1]).replicas

    assert settled(others=0) == 1
    assert settled(others=2) == 3


def test_capacity_is_asked_for_one_cold_start_ahead():
    numbers = drain(wait_seconds=5.0, smoothing_seconds=10.0)

    def ramp(level: Callable[[int], float]) -> int:
        policy, target = build_policy(numbers), 0
        for second in range(60):
            target = policy(snapshot(second, rate=level(second), target=target)).replicas
        return target

    assert ramp(lambda second: second) > ramp(lambda second: 59.0)


def test_a_forecast_follows_a_ramp_and_forgets_it():
    forecast = Forecast(10)
    for second in range(200):
        forecast.observe(second, second)
    assert forecast.ahead(20) == pytest.approx(209, abs=3)
    for second in range(200, 500):
        forecast.observe(second, 0.0)
    assert forecast.ahead(20) == pytest.approx(0, abs=0.5)


def test_a_burst_passes_the_step_limit_and_gives_nothing_back():
    calm = Stepped(asking(100, 1, 1), up=2, down=2, seconds=10)
    policy = Panicking(calm, asking(100, 1, 1), factor=2, seconds=6)
    assert policy(snapshot(0, rate=21, target=10)).replicas == 100
    assert policy(snapshot(5, rate=0, target=100)).replicas == 100
    assert policy(snapshot(7, rate=0, target=100)).replicas == 98


def test_steps_count_within_their_interval():
    policy = Stepped(asking(*[50] * 3, *[0] * 3), up=2, down=5, seconds=10)
    targets = [10]
    for at in (0, 5, 12, 20, 25, 40):
        targets.append(policy(snapshot(at, target=targets[-1])).replicas)
    assert targets[1:] == [12, 12, 14, 9, 9, 4]


def test_what_was_needed_a_moment_ago_is_kept():
    policy = Stabilised(asking(9, 4, 6, 2, 2, 2), lambda _: 10.0)
    targets = [5]
    for at in (0, 5, 8, 11, 17, 30):
        targets.append(policy(snapshot(at, target=targets[-1])).replicas)
    assert targets[1:] == [9, 9, 9, 6, 6, 2]


def test_other_stages_follow_their_requests():
    policy = build_policy(
        PolicyNumbers("ongoing", min_replicas=1, max_replicas=8, ongoing_per_replica=4)
    )
    assert policy(snapshot(0, running=0, target=1)).replicas == 1
    assert policy(snapshot(1, running=17, target=1)).replicas == 5
    assert policy(snapshot(12, running=16, target=5)).replicas == 5
    assert policy(snapshot(28, running=3, target=5)).replicas == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"policy": "magic"}, "policy must be one of drain, ongoing, static, not 'magic'"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas must be .* min_replicas .3., not 2"),
        ({"min_replicas": -1}, "min_replicas must not be negative"),
        ({"scale_down_seconds": -1.0}, "scale_down_seconds must not be negative: -1"),
        ({"wait_seconds": math.nan}, "wait_seconds must be a number, not nan"),
        ({"wait_seconds": 0.0}, "wait_seconds must be above 0"),
        ({"tier_wait_seconds": {"pro": math.inf}}, "tier_wait_seconds.pro must be a number"),
        ({"panic_factor": 0.5}, "panic_factor must be at least 1, not 0.5"),
        ({"step_up": 0}, "step_up must be at least 1, not 0"),
    ],
)
def test_wrong_numbers_are_named(wrong: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        PolicyNumbers(**wrong)  # type: ignore[arg-type]


def test_batches_get_the_replicas_that_their_windows_need_beside_what_arrives() -> None:
    decide = WithBatches(lambda seen: Decision(1, "live", Cause.DEMAND))
    assert decide(snapshot(0.0)).replicas == 1
    idle = WithBatches(lambda seen: Decision(0, "nothing", Cause.ENOUGH))
    assert idle(replace(snapshot(0.0), batch_rate=0.01)).replicas == 1
    wanted = decide(replace(snapshot(1.0), batch_rate=2.5))
    assert (wanted.replicas, wanted.cause) == (3, Cause.BATCH)
    busy = WithBatches(lambda seen: Decision(1, "live", Cause.DEMAND))
    assert busy(replace(snapshot(0.0, rate=2.0), batch_rate=2.5)).replicas == 5
