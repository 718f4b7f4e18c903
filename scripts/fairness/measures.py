"""What is measured: how equal equals are served, and what a load costs tenants that it is
not to delay. Each returns plain numbers; every run has a database of its own."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from jobs.job import Job, JobState
from jobs.sql.sql_ledger import SqlLedger
from scripts.children import Child, await_ready, children
from scripts.fairness.worker import LaneOrder, LoadOrder, command, open_ledger, wish
from scripts.load import percentile

ROOT = Path(__file__).parents[2]
Fresh = Callable[[], AbstractContextManager[str]]
"""A new database; its URL."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a lane draws. Its capacity in jobs a second follows."""

    slots: int = 16
    pass_ms: float = 50.0
    per_row_ms: float = 0.25
    passes: int = 16

    @property
    def pass_cost(self) -> float:
        """GPU-seconds of one pass of one image in a full batch."""
        return (self.pass_ms + self.per_row_ms * self.slots) / 1000 / self.slots

    @property
    def jobs_per_s(self) -> float:
        return 1 / (self.passes * self.pass_cost)

    def lane(self, url: str, name: str) -> LaneOrder:
        return LaneOrder(url, name, self.slots, self.pass_ms, self.per_row_ms)

    def load(self, url: str, lane: str, tier: str, rate: float) -> LoadOrder:
        return LoadOrder(
            url, lane, tier, tenants=100, rate=rate, seconds=0, start_at=0, passes=self.passes,
            pass_cost=self.pass_cost, seed=0,
        )  # fmt: skip


PACE = Pace()
FLOOD = 10.0
HALF = 0.5
TENANTS = 10
QUICK_PASS_MS = 20.0
LEAD_SECONDS = 1.0
DRAIN_SECONDS = 60.0


@contextmanager
def processes(orders: Sequence[LaneOrder | LoadOrder]) -> Iterator[list[Child]]:
    """All of them ready; killed at the end if they are still there."""
    with children([command(order) for order in orders], cwd=ROOT) as running:
        await_ready(running)
        yield running


def latencies(
    fresh: Fresh, lanes: Sequence[str], loads: Sequence[LoadOrder], seconds: float
) -> list[float]:
    """Seconds from due to done of the first load's jobs, sorted. All loads begin together; lanes
    start before them."""
    with fresh() as url:
        ledger = open_ledger(url)
        with processes([PACE.lane(url, lane) for lane in lanes]):
            start_at = time.time() + LEAD_SECONDS + len(loads)
            timed = [replace(o, url=url, seconds=seconds, start_at=start_at) for o in loads]
            with processes(timed) as loading:
                due = dict(json.loads(loading[0].communicate()[0]))
                wait_for(lambda: all(job.ended for job in ledger.get_many(list(due))))
        done = ledger.get_many(list(due))
        ledger.close()
    if lost := [job.id for job in done if job.state is not JobState.SUCCEEDED]:
        raise RuntimeError(f"jobs that did not succeed: {lost}")
    return sorted((job.finished_at or math.inf) - due[job.id] for job in done)


def wait_for(met: Callable[[], bool]) -> None:
    """Until it is so. TimeoutError."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError("the lane did not get through its work")
        time.sleep(0.2)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return percentile(values, 99)


def paid_pair(fresh: Fresh, seconds: float, seed: int) -> tuple[list[float], list[float]]:
    """The same paid requests at half of what the lane draws: alone, and under ten times as many
    free ones as it draws."""
    paid = replace(PACE.load("", "chat", "paid", HALF * PACE.jobs_per_s), seed=seed)
    free = replace(PACE.load("", "chat", "free", FLOOD * PACE.jobs_per_s), seed=seed + 1)
    alone = latencies(fresh, ["chat"], [paid], seconds)
    return alone, latencies(fresh, ["chat"], [paid, free], seconds)


def lanes_pair(fresh: Fresh, seconds: float, seed: int) -> tuple[list[float], list[float]]:
    """The same requests in the api lane: alone, and beside a chat lane at ten times its capacity.
    Two dispatchers with engines of their own on one database."""
    api = replace(PACE.load("", "api", "paid", HALF * PACE.jobs_per_s), seed=seed)
    chat = replace(PACE.load("", "chat", "free", FLOOD * PACE.jobs_per_s), seed=seed + 1)
    alone = latencies(fresh, ["api", "chat"], [api], seconds)
    return alone, latencies(fresh, ["api", "chat"], [api, chat], seconds)


def jain(shares: Sequence[float]) -> float:
    """1 when all are equal, 1/n when one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


def equal_tenants(fresh: Fresh, windows: int, jobs_each: int) -> list[float]:
    """Jain's index of the GPU-seconds that ten equal tenants were drawn in each window, while all
    of them have work: every other one asks for jobs of half the size, and one for ten times as
    much as the rest. In a window everybody gets at least `jobs_each` jobs."""
    pace = replace(PACE, pass_ms=QUICK_PASS_MS)
    passes = [pace.passes // (1 + number % 2) for number in range(TENANTS)]
    in_window = sum(jobs_each * pace.passes // each for each in passes)
    with fresh() as url:
        ledger = open_ledger(url)
        for tenant, each in enumerate(passes):
            number = (windows + 2) * jobs_each * pace.passes // each
            submit_all(ledger, tenant, 10 * number if tenant == 0 else number, each, pace)
        queued = ledger.depth("chat").queued_jobs
        with processes([pace.lane(url, "chat")]):
            wanted = queued - (windows + 1) * in_window  # one more: a depth is an estimate
            wait_for(lambda: ledger.depth("chat").queued_jobs <= wanted)
        found = [ledger.recent(f"t{tenant}", queued) for tenant in range(TENANTS)]
        ledger.close()
    ends = sorted(job.finished_at for jobs in found for job in jobs if job.finished_at)
    edges = ends[pace.slots :: in_window][: windows + 1]
    return [
        jain([_drawn(jobs, began, ended) for jobs in found]) for began, ended in pairwise(edges)
    ]


def submit_all(ledger: SqlLedger, tenant: int, number: int, passes: int, pace: Pace) -> None:
    """A tenant's jobs, all at once."""
    requests = [
        wish(lane="chat", tier="free", tenant=f"t{tenant}", passes=passes, seed=seed,
             cost_seconds=passes * pace.pass_cost)
        for seed in range(number)
    ]  # fmt: skip
    for start in range(0, number, 200):
        ledger.together([partial(ledger.submit, r) for r in requests[start : start + 200]])


def _drawn(jobs: Sequence[Job], began: float, ended: float) -> float:
    """Passes of the jobs that were done in that time."""
    done = (job for job in jobs if job.finished_at and began < job.finished_at <= ended)
    return float(sum(job.request.passes for job in done))


def median_ratio(pairs: Sequence[tuple[list[float], list[float]]]) -> float:
    """Of the p99s of each pair."""
    return statistics.median(p99(with_load) / p99(alone) for alone, with_load in pairs)
