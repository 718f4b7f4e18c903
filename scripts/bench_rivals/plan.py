"""What each side is given, and what the tables allow. Pure: a queue before static batches is played
with the same requests and pass times, so that a rival's batch and timeout are its best ones."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.decoders.paced_tables import TABLES, PassTable
from scripts.bench.workload import asks
from scripts.load import percentile, poisson_arrivals

PASSES = {"low": 4, "medium": 15, "high": 27, "xhigh": 38, "max": 50}
UTILISATION = 0.8
WIDEST = 8
"""Of every side: what fits one picture's latency, and where the tables of diffusion models end."""
WAITS = (0.0, 0.05, 0.2, 0.5)
NEAR = 0.97
"""A layout counts for a rival's latency if it can do so much of the rival's most."""
PLAYED = 4000
Seconds = Callable[[int], float]
Arrival = tuple[float, int]
"""When a request comes, in seconds, and its passes."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model on so many devices. time_scale: what every pass time of its table is multiplied
    with."""

    model: str
    devices: int
    time_scale: float

    @property
    def name(self) -> str:
        return f"{self.model} x {self.devices}"

    @property
    def table(self) -> PassTable:
        return TABLES[self.model]

    @property
    def options(self) -> dict[str, Any]:
        """Of the paced family."""
        return {"table": self.model, "time_scale": self.time_scale}

    def seconds(self, width: int) -> float:
        """Of one pass here."""
        return self.time_scale * self.table.seconds(width)

    @property
    def slots(self) -> int:
        """Of each of our decoders: as wide as pays."""
        return min(WIDEST, self.table.narrowest())

    @property
    def limit(self) -> float:
        """Images/s that the table allows when every pass has that width."""
        per_row = self.seconds(self.slots) / self.slots
        return self.devices / (per_row * mean_passes())


CASES = (
    Case("sdxl", 1, 1.0),
    Case("flux", 1, 1 / 8),
    Case("janus", 1, 1.0),
    Case("flux", 4, 1 / 4),
)
"""SDXL and Janus in real time. FLUX's pictures last 6 s each: in an eighth of that, so that there
are enough to count. Four devices in such time that two cores carry what surrounds the pictures."""


@dataclass(frozen=True, slots=True)
class Batching:
    """batch: the largest. wait_seconds: how long one waits to fill."""

    batch: int
    wait_seconds: float

    def __str__(self) -> str:
        return f"batch {self.batch}, timeout {1000 * self.wait_seconds:.0f} ms"


def mean_passes() -> float:
    """Of a long run of the workload."""
    drawn = asks(0, PLAYED, PASSES)
    return sum(ask.passes for ask in drawn) / len(drawn)


def static_latencies(
    arrivals: Sequence[Arrival], seconds: Seconds, given: Batching, devices: int = 1
) -> list[float]:
    """First come, first served by devices that each draw one batch at a time, until its longest
    row is done: seconds from arrival to answer."""
    free, latencies, next_up = [0.0] * devices, [], 0
    while next_up < len(arrivals):
        full = next_up + given.batch - 1
        first = arrivals[next_up][0]
        filled = arrivals[full][0] if full < len(arrivals) else float("inf")
        start = max(heapq.heappop(free), first, min(filled, first + given.wait_seconds))
        batch = [one for one in arrivals[next_up : next_up + given.batch] if one[0] <= start]
        end = start + max(passes for _, passes in batch) * seconds(len(batch))
        latencies += [end - at for at, _ in batch]
        heapq.heappush(free, end)
        next_up += len(batch)
    return latencies


def static_capacity(seconds: Seconds, batch: int, devices: int) -> float:
    """Images/s with a queue that never ends."""
    arrivals = [(0.0, ask.passes) for ask in asks(0, PLAYED, PASSES)]
    return PLAYED / max(static_latencies(arrivals, seconds, Batching(batch, 0.0), devices))


def poisson(rate: float, seed: int) -> list[Arrival]:
    """As the load generator sends them."""
    times = poisson_arrivals(rate, seed)
    return [(at, ask.passes) for at, ask in zip(times, asks(0, PLAYED, PASSES), strict=False)]


def best_batching(case: Case, batches: Iterable[int] = (1, 2, 4, 8)) -> Batching:
    """Of those with nearly the most images/s the one with the shortest slowest 1 %."""
    rates = {b: static_capacity(case.seconds, b, case.devices) for b in batches}
    most = max(rates.values())
    near = [b for b, rate in rates.items() if rate >= NEAR * most]
    arrivals = poisson(UTILISATION * most, seed=random.Random(case.name).randrange(1000))
    tried = [Batching(b, wait) for b in near for wait in (WAITS if b > 1 else (0.0,))]
    return min(
        tried,
        key=lambda one: percentile(static_latencies(arrivals, case.seconds, one, case.devices), 99),
    )


def limit_over_best_rival(case: Case) -> float:
    """What the table itself allows of images_per_s_over_best_rival: passes as wide as pays, without
    a gap, over the best static batches without one."""
    batch = best_batching(case).batch
    return case.limit / static_capacity(case.seconds, batch, case.devices)
