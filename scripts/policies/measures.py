"""The loads that the policies meet, recorded ones where the files are there and drawn ones; and
what is measured of a policy, each in one simulated run or a few."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

from autoscaling.policies import PolicyNumbers, build_policy
from autoscaling.simulator.baselines import BASELINES, Requests, baseline
from autoscaling.simulator.clairvoyant import clairvoyant, gpu_seconds
from autoscaling.simulator.energy import WATTS
from autoscaling.simulator.figures import direction_changes, figures
from autoscaling.simulator.scenarios import SCENARIOS, arrivals, with_tenants
from autoscaling.simulator.simulation import SimulationResult, simulate
from autoscaling.simulator.traces import read_trace
from autoscaling.simulator.workload import Arrival, ColdStart, Lane
from engine.cost import PassCost
from jobs.policy.fair_queue import FairQueue
from jobs.tiers import Tier

TIERS = {"free": Tier(weight=1), "plus": Tier(weight=3), "pro": Tier(weight=6)}
ONE_TIER = {"free": Tier()}
TRACES = Path(__file__).parents[3] / "shared/data/azure2023"
HOUR = 3600.0
BLOCK_SECONDS = 60.0
PICTURE_SECONDS = 20.0
Load = tuple[str, Sequence[Arrival]]
MOST = 400
MINUTE = PolicyNumbers(min_replicas=0, max_replicas=MOST)
"""The defaults, for a p95 wait of a minute."""
SECONDS = replace(MINUTE, wait_seconds=5.0, horizon_seconds=60.0, scale_down_seconds=45.0)
"""For five seconds, as docs/autoscaling.md advises."""
LADDER = (60.0, 50.0, 40.0, 30.0, 20.0, 15.0, 10.0, 5.0)


@dataclass(frozen=True, slots=True)
class Run:
    """gpu_hours paid; p95: seconds that 95 % of the jobs waited at most."""

    gpu_hours: float
    p95: float
    work_hours: float
    optimum_hours: float | None = None

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


def beside_baselines(there: Lane, load: Sequence[Arrival]) -> Iterator[tuple[str, Run, Run]]:
    """Each baseline's run, and the cheapest of ours, down a ladder of wait targets, whose p95 wait
    is no longer."""
    requests = Requests(there.picture_seconds, there.slots)
    runs = [ours(there, load, replace(MINUTE, wait_seconds=wait)) for wait in LADDER]
    for name in BASELINES:
        theirs = _run(simulate(there, load, baseline(name, requests, 0, there.max_replicas)))
        fair = [run for run in runs if run.p95 <= theirs.p95]
        if fair:
            yield name, theirs, min(fair, key=lambda run: run.gpu_hours)


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


def bursty_loads(directory: Path, seeds: int) -> Iterator[Load]:
    """The recorded trace of bursts, the same minutes in another order, and drawn bursts."""
    path = directory / "AzureLLMInferenceTrace_code.csv"
    if path.exists():
        recorded = read_trace(path, ONE_TIER)
        yield "azure code", recorded
        for seed in range(1, seeds):
            yield f"azure code, minutes shuffled by {seed}", _shuffled(recorded, seed)
    for seed in range(seeds):
        yield f"drawn bursts {seed}", with_tenants(_bursts(seed), ONE_TIER, seed)


def smooth_load(directory: Path) -> Load:
    """The recorded trace of conversations, or a Poisson process beside the mean of it."""
    path = directory / "AzureLLMInferenceTrace_conv.csv"
    if path.exists():
        return "azure conv", read_trace(path, ONE_TIER)
    random, at, times = Random("smooth"), 0.0, list[float]()
    while at < HOUR:
        at += random.expovariate(4.5 + 2.0 * (at / HOUR))
        times.append(at)
    return "drawn, smooth", with_tenants(times, ONE_TIER, 0)


def pulse(seed: int) -> list[Arrival]:
    """Ten times the load for five minutes, from minute 10 on."""
    return arrivals(
        SCENARIOS["pulse"], TIERS, seed, peak_gpus=160.0, picture_seconds=PICTURE_SECONDS
    )


def launch_day() -> list[Arrival]:
    """A million sign-ups within an hour of a busy day, at 1/1000."""
    return arrivals(
        SCENARIOS["launch-day"], TIERS, 0, peak_gpus=200.0, picture_seconds=PICTURE_SECONDS
    )


def variation(load: Sequence[Arrival]) -> float:
    """Coefficient of variation of the gaps between arrivals."""
    gaps = [after.at - before.at for before, after in pairwise(load)]
    return pstdev(gaps) / fmean(gaps)


def _shuffled(recorded: Sequence[Arrival], seed: int) -> list[Arrival]:
    blocks = list(range(int(recorded[-1].at // BLOCK_SECONDS)))
    Random(seed).shuffle(blocks)
    place = {block: n for n, block in enumerate(blocks)}
    times = [
        place[block] * BLOCK_SECONDS + arrival.at % BLOCK_SECONDS
        for arrival in recorded
        if (block := int(arrival.at // BLOCK_SECONDS)) in place
    ]
    return with_tenants(sorted(times), ONE_TIER, seed)


def _bursts(seed: int) -> list[float]:
    """Bursts of 20 to 600, some large and most small, 45 s apart on average."""
    random, at, times = Random(f"bursts/{seed}"), 0.0, list[float]()
    while (at := at + random.expovariate(1 / 45)) < HOUR:
        length = random.uniform(3, 25)
        times += [
            at + random.uniform(0, length)
            for _ in range(int(min(600, 20 * random.paretovariate(1.2))))
        ]
    return sorted(times)
