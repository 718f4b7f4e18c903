"""The simulator against arithmetic: waits, conservation, failures, drains, limits."""

from __future__ import annotations

from collections import Counter, deque
from random import Random

import numpy as np
import pytest

from autoscaling.limits import Threshold, Tightening
from autoscaling.policy import Decision, LoadSnapshot
from autoscaling.simulator.energy import WATTS
from autoscaling.simulator.figures import direction_changes, figures
from autoscaling.simulator.shares import jain
from autoscaling.simulator.simulation import SimulationResult, simulate
from autoscaling.simulator.workload import Arrival, ColdStart, Lane
from engine.cost import PassCost
from engine.decoders.paced import PacedDecoder
from engine.engine import DecoderEngine
from engine.render import Conditioning, RenderSpec, RenderUpdate, UpdateKind
from jobs.tiers import Tier

NOTHING = Conditioning.from_numpy("", pooled=np.zeros(384, np.float16))


def one_slot(**changes: object) -> Lane:
    """Every picture takes one second, alone."""
    options = {"cost": PassCost(0.5, 0.0), "slots": 1, "passes": 2, "dispatch_seconds": 0.0}
    return Lane(**{**options, **changes})  # type: ignore[arg-type]


def load(seed: int, jobs: int, per_second: float) -> list[Arrival]:
    random, at = Random(seed), 0.0
    arrivals = []
    for _ in range(jobs):
        at += random.expovariate(per_second)
        tier = random.choice(("free", "paid"))
        arrivals.append(Arrival(at, f"{tier}{random.randrange(20)}", tier, random.choice((1, 4))))
    return arrivals


def waits(outcome: SimulationResult) -> list[float]:
    return [job.wait_seconds for job in outcome.jobs if job.wait_seconds is not None]


def test_regular_arrivals_wait_as_in_a_d_d_1_queue() -> None:
    outcome = simulate(one_slot(), [Arrival(n * 0.8) for n in range(50)])
    assert waits(outcome) == pytest.approx([n * 0.2 for n in range(50)])


def test_random_arrivals_wait_as_in_an_m_d_1_queue() -> None:
    random, at, arrivals = Random(7), 0.0, []
    for _ in range(15_000):
        at += random.expovariate(0.6)
        arrivals.append(Arrival(at, f"tenant{random.randrange(1000)}"))
    found = waits(simulate(one_slot(tick_seconds=100.0), arrivals))
    assert sum(found) / len(found) == pytest.approx(0.6 / (2 * (1 - 0.6)), rel=0.1)


def busy_lane(**changes: object) -> Lane:
    options = {
        "cost": PassCost(0.2, 0.4),
        "tiers": {"free": Tier(concurrent_renders=4, images_per_day=40), "paid": Tier(weight=8)},
        "min_replicas": 1,
        "max_replicas": 12,
        "cold_start": ColdStart(5.0, 9.0),
        "grace_seconds": 3.0,
    }
    return Lane(**{**options, **changes})  # type: ignore[arg-type]


def flapping(load: LoadSnapshot) -> Decision:
    """A policy at its worst: every few seconds it wants something else."""
    return Decision(1 + int(load.at / 7) * 5 % 12, "because")


def test_everything_that_arrives_ends_exactly_once_whatever_fails() -> None:
    lane = busy_lane(start_failures=0.3, failures_per_hour=60.0, nodes=8)
    outcome = simulate(lane, load(3, 600, 1.0), flapping)
    ends = Counter(
        (job.finished_at is not None) + (job.refused is not None) for job in outcome.jobs
    )
    assert ends == {1: 600}
    assert {job.refused for job in outcome.jobs} == {None, "quota"}
    drawn = sum(job.all_passes for job in outcome.jobs if job.refused is None)
    assert sum(replica.drawn_passes for replica in outcome.replicas) == drawn  # none twice
    assert outcome.failures > 0
    assert outcome.failed_starts > 0
    assert any(not use.done for use in outcome.slot_uses)
    assert max(s.starting + s.drawing + s.draining for s in outcome.samples) <= 8


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    def run(seed: int) -> list[float | None]:
        lane = busy_lane(failures_per_hour=60.0)
        arrivals = load(3, 200, 1.0)
        return [job.finished_at for job in simulate(lane, arrivals, flapping, seed=seed).jobs]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_replicas_come_a_cold_start_after_they_are_asked_for_and_nodes_are_what_there_is() -> None:
    lane = one_slot(max_replicas=5, cold_start=ColdStart(10.0), nodes=3)
    outcome = simulate(lane, [], lambda _: Decision(9, "more"), duration_seconds=20)
    drawing = [sample.drawing for sample in outcome.samples]
    assert drawing == [1] * 10 + [3] * 11
    assert outcome.samples[-1].target == 5


def test_a_drain_ends_its_renders_within_the_grace_and_hands_the_rest_over() -> None:
    def fewer(load: LoadSnapshot) -> Decision:
        return Decision(2 if load.at < 5 else 1, "fewer")

    lane = one_slot(passes=20, replicas=2, max_replicas=2, grace_seconds=2.25)
    outcome = simulate(lane, [Arrival(0.0, "a"), Arrival(0.0, "b")], fewer)
    cut = [use for use in outcome.slot_uses if not use.done]
    assert [(use.began, use.ended) for use in cut] == [(0.0, 7.25)]
    # The pass under way is lost; 14 of 20 were done, and it goes on when the other one is free.
    assert sorted(job.finished_at or 0.0 for job in outcome.jobs) == pytest.approx([10.0, 13.0])


def test_a_tier_with_a_large_share_is_drawn_first_but_not_only() -> None:
    tiers = {"free": Tier(weight=1), "paid": Tier(weight=3)}
    arrivals = [Arrival(0.0, f"{tier}{n}", tier) for n in range(40) for tier in tiers]
    outcome = simulate(one_slot(tiers=tiers), arrivals)
    early = [job.arrival.tier for job in outcome.jobs if (job.wait_seconds or 0.0) < 40]
    assert Counter(early)["paid"] == pytest.approx(30, abs=1)


def test_parked_tenants_take_no_more_slots_than_their_tier_allows() -> None:
    lane = one_slot(slots=4, tiers={"free": Tier(concurrent_renders=1)})
    outcome = simulate(lane, [Arrival(0.0, "one") for _ in range(5)])
    assert waits(outcome) == pytest.approx([0, 1, 2, 3, 4])


def test_equal_tenants_get_equal_shares() -> None:
    arrivals = [Arrival(0.0, f"t{n}") for n in range(10) for _ in range(60)]
    jain_of_free = simulate(one_slot(), arrivals).jain["free"]
    assert jain_of_free is not None
    assert jain_of_free > 0.99


def test_jain_is_one_for_equals_and_one_over_n_for_a_hog() -> None:
    assert jain([2.0, 2.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25


def test_heat_over_a_mark_keeps_newcomers_out_until_it_has_cooled() -> None:
    threshold = Threshold(20, 5, hold_seconds=2, tiers={"free": Tightening(rollout="off")})
    flood = [Arrival(n / 4, f"known{n}") for n in range(160)]  # four times what is drawn
    new = [Arrival(at, f"new{at}", newcomer=True) for at in (1.0, 35.0, 200.0)]
    outcome = simulate(one_slot(thresholds=[threshold]), [*flood, *new], duration_seconds=210)
    assert [level.level for level in outcome.levels] == [1, 0]
    refused = {job.arrival.tenant: job.refused for job in outcome.jobs if job.arrival.newcomer}
    assert refused == {"new1.0": None, "new35.0": "rollout", "new200.0": None}
    assert not any(job.refused for job in outcome.jobs if not job.arrival.newcomer)


def test_a_simulated_replica_draws_as_the_real_engine_does() -> None:
    """The engine itself, with the paced family, on the same fake clock."""
    random, at, arrivals = Random(5), 0.0, []
    for _ in range(40):
        at += random.expovariate(4.0)
        arrivals.append(Arrival(at, passes=random.randint(1, 9)))
    clock, ended = [0.0], {}

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    def emit(update: RenderUpdate) -> None:
        if update.kind is UpdateKind.PASS:
            ended[int(update.render_id)] = clock[0]

    engine = DecoderEngine(decoder := PacedDecoder(200, 50, sleep), 3, emit, lambda: clock[0])
    waiting = deque(enumerate(arrivals))
    while waiting:
        while waiting and waiting[0][1].at <= clock[0] and engine.free_slots:
            number, arrival = waiting.popleft()
            engine.add(RenderSpec(str(number), NOTHING, 1, arrival.passes or 0))
        if not engine.step():
            clock[0] = waiting[0][1].at
    engine.drain()
    outcome = simulate(Lane(decoder.cost, slots=3, dispatch_seconds=0.0), arrivals)
    assert [job.finished_at for job in outcome.jobs] == pytest.approx(
        [ended[number] for number in range(40)]
    )


def test_a_paid_job_takes_the_slot_of_a_free_one_which_goes_on_from_its_last_pass() -> None:
    tiers = {"free": Tier(weight=1), "paid": Tier(weight=9)}
    free = [Arrival(0.0, f"f{n}") for n in range(2)]
    lane = one_slot(slots=2, passes=20, tiers=tiers)
    outcome = simulate(lane, [*free, Arrival(3.0, "p", "paid")])
    paid = outcome.jobs[-1]
    assert paid.wait_seconds == pytest.approx(0.5)  # until the pass under way is drawn
    assert paid.finished_at == pytest.approx(13.5)
    assert [(use.ended, use.job.arrival.tier) for use in outcome.slot_uses] == [
        (3.5, "free"),
        (10.0, "free"),
        (13.5, "paid"),
        (17.0, "free"),
    ]
    assert sum(job.preemptions for job in outcome.jobs) == 1


def test_those_for_whom_nobody_draws_are_left_unfinished_at_the_deadline() -> None:
    lane = one_slot(min_replicas=0, replicas=0, deadline_seconds=30)
    outcome = simulate(lane, [Arrival(2.0, images=3)])
    found = figures("nobody", outcome, WATTS["h200"])
    assert outcome.ended_at == 32.0
    assert (found.all.unfinished, found.all.pictures, found.gpu_hours) == (1, 0, 0.0)


def test_figures_add_up() -> None:
    """Two replicas for ten seconds, one of which draws for three."""
    lane = one_slot(replicas=2, max_replicas=2)
    outcome = simulate(lane, [Arrival(1.0, images=3, tenant="a")], duration_seconds=10.0)
    found = figures("two", outcome, WATTS["h200"])
    assert found.gpu_hours * 3600 == pytest.approx(20)
    assert found.drawing_gpu_hours * 3600 == pytest.approx(3)
    assert found.idle_gpu_hours * 3600 == pytest.approx(17)
    assert found.kwh == pytest.approx((3 * 700 + 17 * 117) / 3.6e6)
    assert found.all.turnarounds == (2.0, 2.0, 2.0)
    assert direction_changes([1, 2, 2, 3, 1, 1, 4]) == 2
