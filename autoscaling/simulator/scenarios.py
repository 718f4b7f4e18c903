"""Loads of an hour or a day, as arrivals by seed.

Most are shapes of load between 0 and the busiest moment, which is as many GPUs of work as the
caller says. launch-day is in images a second, whatever they cost: one thousandth of 700 million
pictures a week on a diurnal curve, and of a million sign-ups within an hour of it, each for three.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

from autoscaling.simulator.tenants import IMAGES_MEAN, Crowd
from autoscaling.simulator.workload import Arrival
from jobs.tiers import Tier

MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0

SCALE = 1_000
WEEKLY_PICTURES = 700e6
SIGN_UPS = 1_000_000 // SCALE
PICTURES_EACH = 3
NEXT_PICTURE_SECONDS = 30.0
LAUNCH_AT = 17 * HOUR
E_FOLDING_SECONDS = 3 * MINUTE
"""In which the crowd grows e-fold until minute 50 of its hour; it shrinks as fast."""
PEAK_AFTER = 50 * MINUTE


@dataclass(frozen=True, slots=True)
class Scenario:
    """shape: load at a second, 0 to 1 of the busiest; None: launch-day."""

    name: str
    what: str
    duration_seconds: float
    shape: Callable[[float], float] | None = None


def _step(at: float) -> float:
    return 1.0 if 15 * MINUTE <= at < 45 * MINUTE else 0.2


def _ramp(at: float) -> float:
    return min(1.0, 0.1 + 0.9 * max(0.0, at - 10 * MINUTE) / (30 * MINUTE))


def _sawtooth(at: float) -> float:
    return 0.1 + 0.9 * (at % (10 * MINUTE)) / (10 * MINUTE)


def _pulse(at: float) -> float:
    return 1.0 if 10 * MINUTE <= at < 15 * MINUTE else 0.1


def _weekday(at: float) -> float:
    """Least at five in the morning, a shoulder at noon, most at eight in the evening."""
    hour = at / HOUR
    evening = 0.5 - 0.5 * math.cos(2 * math.pi * (hour - 5) / 24)
    noon = math.exp(-((hour - 12) ** 2) / 4)
    late = math.exp(-((hour - 20) ** 2) / 8)
    return min(1.0, 0.08 + 0.45 * evening + 0.25 * noon + 0.55 * late)


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("launch-day", "a million sign-ups in an hour of a busy day, at 1/1000", DAY),
        Scenario("step", "a fifth of the load, then all of it for half an hour", HOUR, _step),
        Scenario("ramp", "from a tenth to all of the load within half an hour", HOUR, _ramp),
        Scenario("sawtooth", "six ramps of ten minutes that break off", HOUR, _sawtooth),
        Scenario("pulse", "ten times the load for five minutes", 40 * MINUTE, _pulse),
        Scenario("weekday", "a day with a noon and an evening", DAY, _weekday),
    )
}


def arrivals(
    scenario: Scenario,
    tiers: Mapping[str, Tier],
    seed: int,
    *,
    peak_gpus: float,
    picture_seconds: float,
) -> list[Arrival]:
    """In order. peak_gpus: GPU-seconds of work per second at the busiest moment, of the scenarios
    that have a shape; picture_seconds: GPU-seconds of one image."""
    random = Random(f"{seed}/{scenario.name}")
    crowd = Crowd(tiers, random)
    if scenario.shape is None:
        found = [*_thinned(_base_rate, scenario, crowd, random), *_sign_ups(crowd.least, random)]
        return sorted(found, key=lambda arrival: arrival.at)
    shape, most = scenario.shape, peak_gpus / picture_seconds
    return list(_thinned(lambda at: most * shape(at), scenario, crowd, random))


def with_tenants(seconds: Iterable[float], tiers: Mapping[str, Tier], seed: int) -> list[Arrival]:
    """Bare times of arrival, of an image each, with tenants of the usual skew."""
    crowd = Crowd(tiers, Random(f"{seed}/dressed"))
    return [Arrival(at, *crowd.next_tenant()) for at in seconds]


def _thinned(
    pictures_per_second: Callable[[float], float], scenario: Scenario, crowd: Crowd, random: Random
) -> Iterator[Arrival]:
    """A Poisson process of that changing rate, by thinning one of the highest."""
    images = crowd.images()
    steps = range(0, int(scenario.duration_seconds), 10)
    highest = max(pictures_per_second(at) for at in steps) / IMAGES_MEAN
    at = random.expovariate(highest)
    while at < scenario.duration_seconds:
        if random.random() * highest * IMAGES_MEAN < pictures_per_second(at):
            yield Arrival(at, *crowd.next_tenant(), next(images))
        at += random.expovariate(highest)


def _base_rate(at: float) -> float:
    """Pictures a second without the sign-ups: half as many at five in the morning, half more than
    the mean at five in the afternoon."""
    mean = WEEKLY_PICTURES / SCALE / 7 / DAY - SIGN_UPS * PICTURES_EACH / DAY
    return mean * (1 + 0.5 * math.cos(2 * math.pi * (at - 17 * HOUR) / DAY))


def _sign_ups(tier: str, random: Random) -> Iterator[Arrival]:
    """New tenants of the least tier, each with a picture at once and more when it was seen."""
    rising = math.exp(-PEAK_AFTER / E_FOLDING_SECONDS)
    falling = math.exp(-(HOUR - PEAK_AFTER) / E_FOLDING_SECONDS)
    before = (1 - rising) / (2 - rising - falling)  # share of the crowd that comes before the peak
    for number in range(SIGN_UPS):
        u = random.random()
        if random.random() < before:
            after_peak = E_FOLDING_SECONDS * math.log(rising + u * (1 - rising))
        else:
            after_peak = -E_FOLDING_SECONDS * math.log(falling + u * (1 - falling))
        at = LAUNCH_AT + PEAK_AFTER + after_peak
        for _ in range(PICTURES_EACH):
            yield Arrival(at, f"new-{number}", tier, newcomer=True)
            at += random.expovariate(1 / NEXT_PICTURE_SECONDS)
