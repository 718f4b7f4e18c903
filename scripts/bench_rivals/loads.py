"""What each side is asked: everything at once, Poisson arrivals, and paid requests in a flood."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripts.bench.measure import BadRun
from scripts.bench.workload import body
from scripts.cluster import KEY
from scripts.load import LoadReport, run_closed, run_load

PAID_KEY = "sk-paid"
LIMIT_SECONDS = 280.0
FLOOD = 10
PAID_SHARE = 0.2
"""Of the best rival's capacity; the flood is FLOOD times as many requests."""
PAID_NUMBERS = 50_000
Shape = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Target:
    """A side that runs. shape: how it wants a request's body."""

    name: str
    url: str
    shape: Shape = lambda request: request

    def body(self, number: int) -> dict[str, Any]:
        """The JSON of request `number`."""
        return self.shape(body(number))

    def paid_body(self, number: int) -> dict[str, Any]:
        """The same for paid ones, whose seeds are others."""
        return self.shape(body(PAID_NUMBERS + number))


def warm(target: Target, clients: int, count: int) -> None:
    """Short pictures, so that every process has drawn, and BentoML has learned: it tries ten
    batches before it batches by what it has seen."""

    def short(number: int) -> dict[str, Any]:
        return target.shape({**body(number), "quality": "low"})

    report = asyncio.run(
        run_closed(target.url, KEY, clients, count, short, limit_seconds=LIMIT_SECONDS)
    )
    _checked(target, report)


def saturate(target: Target, clients: int, count: int) -> float:
    """Images/s of the first `count` requests, from the first sent to the last answered: every side
    has exactly the same passes to do, filling and emptying included."""
    report = asyncio.run(
        run_closed(target.url, KEY, clients, count, target.body, limit_seconds=LIMIT_SECONDS)
    )
    return _checked(target, report).images_per_s


def at_random(target: Target, rate: float, seconds: float, seed: int) -> list[float]:
    """Latencies of Poisson arrivals, in seconds from when each was due."""
    count = max(10, round(rate * seconds))
    report = asyncio.run(
        run_load(target.url, KEY, rate, count, target.body, seed=seed, limit_seconds=LIMIT_SECONDS)
    )
    return _checked(target, report).latencies


def in_a_flood(target: Target, capacity: float, seconds: float, seed: int) -> list[float]:
    """Latencies of paid requests that come at random, a fifth of what the best rival can do, after
    ten times as many free ones have come at once: work for twice those seconds. The flood ends
    with the last paid answer."""
    return asyncio.run(_in_a_flood(target, PAID_SHARE * capacity, seconds, seed))


async def _in_a_flood(target: Target, rate: float, seconds: float, seed: int) -> list[float]:
    count = max(3, round(rate * seconds))
    free = asyncio.create_task(
        run_closed(
            target.url, KEY, FLOOD * count, FLOOD * count, target.body,
            limit_seconds=LIMIT_SECONDS,
        )
    )  # fmt: skip
    paid = await run_load(
        target.url, PAID_KEY, rate, count, target.paid_body, seed=seed,
        limit_seconds=LIMIT_SECONDS,
    )  # fmt: skip
    free.cancel()
    await asyncio.gather(free, return_exceptions=True)
    return _checked(target, paid).latencies


def _checked(target: Target, report: LoadReport) -> LoadReport:
    bad = {answer.outcome for answer in report.answers} - {"ok"}
    if bad or report.unfinished:
        raise BadRun(f"{target.name}: outcomes {sorted(bad)}, {report.unfinished} unfinished")
    return report
