"""The loads that the policies meet, by seed: recorded ones where the files are there, drawn ones
with the same burstiness, and drawn ones with heavier tails, requests of several pictures, and
hours in which a lane goes to zero and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
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
IMAGES_MOST = 10
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


def tailed_loads(seeds: int) -> Iterator[Load]:
    """An hour each of requests of 1 to 10 pictures, half of them single. Renewal processes whose
    gaps have a coefficient of variation of 4, 8 and 12, gamma or hyperexponential, a request in
    two seconds on average; and bursts of Pareto sizes."""
    for seed in range(seeds):
        for cv in (4, 8, 12):
            yield f"gamma gaps, CV {cv}, {seed}", _batchy(_renewal(_gamma(cv), 2.0, seed), seed)
            yield f"two-phase gaps, CV {cv}, {seed}", _batchy(_renewal(_h2(cv), 2.0, seed), seed)
        yield f"bursts of batches {seed}", _batchy(_bursts(seed)[::3], seed)
        yield f"bursts at once {seed}", _batchy(_at_once(seed), seed)


def sparse_loads(seeds: int) -> Iterator[Load]:
    """Four hours each of requests of 1 to 10 pictures, half of them single: one in four minutes
    and in one minute, each independent of the others; and visits of 2 to 12 requests within two
    minutes, fifteen minutes apart."""
    for seed in range(seeds):
        for gap in (240.0, 60.0):
            random = Random(f"sparse/{gap:g}/{seed}")
            times = _until(lambda r=random, g=gap: r.expovariate(1 / g), 4 * HOUR)  # type: ignore[misc]
            yield f"a request in {gap:g} s, {seed}", _batchy(times, seed)
        yield f"visits {seed}", _batchy(_visits(seed), seed)


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


def _at_once(seed: int) -> list[float]:
    """Bursts of 10 to 200 within a second, 200 s apart on average."""
    random, at, times = Random(f"at once/{seed}"), 0.0, list[float]()
    while (at := at + random.expovariate(1 / 200)) < HOUR:
        size = int(min(200, 10 * random.paretovariate(1.1)))
        times += [at + random.random() for _ in range(size)]
    return sorted(times)


def _visits(seed: int) -> list[float]:
    random, at, times = Random(f"visits/{seed}"), 0.0, list[float]()
    while (at := at + random.expovariate(1 / 900)) < 4 * HOUR:
        times += [at + random.uniform(0, 120) for _ in range(random.randint(2, 12))]
    return sorted(times)


def _renewal(gap: Callable[[Random], float], mean: float, seed: int) -> list[float]:
    """Arrivals of an hour. gap: draws one of mean 1."""
    random = Random(f"renewal/{seed}")
    return _until(lambda: mean * gap(random), HOUR)


def _gamma(cv: float) -> Callable[[Random], float]:
    return lambda random: random.gammavariate(1 / cv**2, cv**2)


def _h2(cv: float) -> Callable[[Random], float]:
    """Two exponentials with balanced means (Whitt 1982)."""
    often = 0.5 * (1 + math.sqrt((cv**2 - 1) / (cv**2 + 1)))
    return lambda random: random.expovariate(
        2 * often if random.random() < often else 2 * (1 - often)
    )


def _until(gap: Callable[[], float], end: float) -> list[float]:
    at, times = 0.0, list[float]()
    while (at := at + gap()) < end:
        times.append(at)
    return times


def _batchy(times: Iterable[float], seed: int) -> list[Arrival]:
    """Requests of 1 to 10 pictures, half of them single."""
    random = Random(f"batchy/{seed}")
    return [
        replace(one, images=1 if random.random() < 0.5 else random.randint(2, IMAGES_MOST))
        for one in with_tenants(times, ONE_TIER, seed)
    ]
