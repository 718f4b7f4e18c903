"""What is measured of a policy, each in one simulated run or a few."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from autoscaling.policies import PolicyNumbers, build_policy
from autoscaling.policies.wrappers import Bounded
from autoscaling.simulator.baselines import Requests, baseline, ray_policy
from autoscaling.simulator.clairvoyant import clairvoyant, gpu_seconds
from autoscaling.simulator.energy import WATTS
from autoscaling.simulator.figures import direction_changes, figures
from autoscaling.simulator.simulation import SimulationResult, simulate
from autoscaling.simulator.workload import Arrival, ColdStart, Lane
from engine.cost import PassCost
from jobs.policy.fair_queue import FairQueue
from scripts.policies.loads import ONE_TIER, PICTURE_SECONDS, TIERS, launch_day, pulse
from scripts.policies.lower_bound import lower_bound

MOST = 400
MINUTE = PolicyNumbers(min_replicas=0, max_replicas=MOST)
"""The defaults, for a p95 wait of a minute."""
SECONDS = replace(MINUTE, wait_seconds=5.0, horizon_seconds=60.0, scale_down_seconds=45.0)
"""For five seconds, as docs/autoscaling.md advises."""
TRIALS = 6
"""Of wait targets, to find the longest whose p95 wait is no longer than another policy's."""
RAY_SETTINGS = tuple(product((1.0, 2.0, 2.5, 3.0), (15.0, 30.0, 60.0)))
"""Of Ray's policy: requests a replica, and seconds before it gives one back; it waits for none
before it asks for one."""


@dataclass(frozen=True, slots=True)
class Run:
    """gpu_hours paid; p95: seconds that 95 % of the jobs waited at most."""

    gpu_hours: float
    p95: float
    work_hours: float
    optimum_hours: float | None = None
    bound_hours: float = 0.0

    @property
    def over_bound(self) -> float:
        """Of GPU-hours, see lower_bound."""
        return self.gpu_hours / self.bound_hours

    @property
    def over_optimum(self) -> float:
        """inf when there is none."""
        return self.gpu_hours / self.optimum_hours if self.optimum_hours else float("inf")


def lane(cold_start: float | ColdStart, slots: int = 1, passes: int = 4) -> Lane:
    """Pictures of 20 GPU-seconds, from nothing to 400 GPUs."""
    return Lane(
        cost=PassCost(0.0, PICTURE_SECONDS / passes),
        slots=slots,
        passes=passes,
        tiers=ONE_TIER,
        min_replicas=0,
        max_replicas=MOST,
        replicas=0,
        cold_start=cold_start if isinstance(cold_start, ColdStart) else ColdStart(cold_start),
    )


def of_three_tiers(there: Lane) -> Lane:
    """The same with three tiers, and never without a replica."""
    return replace(there, tiers=TIERS, min_replicas=1, replicas=1)


def ours(there: Lane, load: Sequence[Arrival], numbers: PolicyNumbers) -> Run:
    """Our policy's run."""
    return _run(simulate(there, load, build_policy(numbers, FairQueue(there.tiers))))


def beside_hindsight(there: Lane, load: Sequence[Arrival], numbers: PolicyNumbers) -> Run:
    """Our policy's run, and the best that hindsight found for the same wait target."""
    best = clairvoyant(there, load, numbers.wait_seconds)
    hours = gpu_seconds(best) / 3600 if best else None
    return replace(ours(there, load, numbers), optimum_hours=hours)


def with_bound(run: Run, there: Lane, load: Sequence[Arrival], wait_seconds: float) -> Run:
    """The same, and what no schedule goes below that keeps this promise."""
    return replace(run, bound_hours=lower_bound(there, load, wait_seconds) / 3600)


def beside_baseline(name: str, there: Lane, load: Sequence[Arrival]) -> tuple[Run, Run | None]:
    """The baseline's run, and ours that waits no longer."""
    requests = Requests(there.picture_seconds, there.slots)
    theirs = _run(simulate(there, load, baseline(name, requests, 0, there.max_replicas)))
    return theirs, no_later(there, load, theirs.p95)


def no_later(there: Lane, load: Sequence[Arrival], p95: float) -> Run | None:
    """Of ours, with the longest wait target up to a minute whose p95 wait is found to be no longer,
    by bisection. None: there is none."""
    found, least, most, wait = None, 0.0, 2 * MINUTE.wait_seconds, MINUTE.wait_seconds
    for _ in range(TRIALS):
        run = ours(there, load, replace(MINUTE, wait_seconds=wait))
        if run.p95 <= p95:
            found, least = run, wait
            if wait == MINUTE.wait_seconds:
                break
        else:
            most = wait
        wait = (least + most) / 2
    return found


def tuned_ray(there: Lane, load: Sequence[Arrival], wait_seconds: float) -> Run | None:
    """Of RAY_SETTINGS the cheapest run that keeps the promise, chosen in hindsight for this very
    load. None: there is none."""
    requests = Requests(there.picture_seconds, there.slots)
    found = list[Run]()
    for ongoing, seconds in RAY_SETTINGS:
        policy = ray_policy(requests, ongoing, upscale_delay_s=0.0, downscale_delay_s=seconds)
        found.append(_run(simulate(there, load, Bounded(policy, 0, there.max_replicas))))
    kept = [run for run in found if run.p95 <= wait_seconds]
    return min(kept, key=lambda run: run.gpu_hours, default=None)


def changes_per_minute(seed: int, cold_start: float, numbers: PolicyNumbers) -> float:
    """Of the direction in which the target moves, from the end of a tenfold pulse on."""
    there = of_three_tiers(lane(cold_start))
    policy = build_policy(replace(numbers, min_replicas=1), FairQueue(TIERS))
    outcome = simulate(there, pulse(seed), policy, duration_seconds=2400.0)
    after = [sample for sample in outcome.samples if sample.at >= 900]
    return direction_changes([s.target for s in after]) / ((after[-1].at - after[0].at) / 60)


def launch_day_seconds() -> tuple[float, Run]:
    """How long simulating the launch day takes, from drawing its arrivals to its figures."""
    began = time.perf_counter()
    there = of_three_tiers(lane(ColdStart(22.7, 42.0), slots=4, passes=12))
    policy = build_policy(replace(MINUTE, min_replicas=1), FairQueue(TIERS))
    outcome = simulate(there, launch_day(), policy, duration_seconds=86_400.0)
    run = _run(outcome)
    return time.perf_counter() - began, run


def _run(outcome: SimulationResult) -> Run:
    found = figures("", outcome, WATTS["h200"])
    work = sum(job.all_passes for job in outcome.jobs) * outcome.lane.row_seconds
    return Run(found.gpu_hours, found.all.waits[1], work / 3600)
