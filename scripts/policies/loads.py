"""The crowds that the policies meet: recorded ones where the files are there, and drawn ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

from autoscaling.simulator.scenarios import SCENARIOS, arrivals, with_tenants
from autoscaling.simulator.traces import read_trace
from autoscaling.simulator.workload import Arrival
from jobs.tiers import Tier

TIERS = {"free": Tier(weight=1), "plus": Tier(weight=3), "pro": Tier(weight=6)}
ONE_TIER = {"free": Tier()}
TRACES = Path(__file__).parents[3] / "shared/data/azure2023"
HOUR = 3600.0
BLOCK_SECONDS = 60.0
PICTURE_SECONDS = 20.0

Load = tuple[str, Sequence[Arrival]]


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
