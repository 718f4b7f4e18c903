"""`python -m scripts.autoscaling`: decoders follow a step, a ramp, a sawtooth and a pulse, live.

Each shape is played to the lane of configs/paced-autoscaling.yaml on a local Ray cluster, and then,
with the arrivals and the cold starts that were seen, to the simulator. Nothing may be lost and no
decoder may fail an image. The last line is one JSON object:

first_decision_s   from the step of those who may wait 5 s to the first higher target. (The pulse is
                   in the table: who may wait 20 s is not worth a decoder before that is in danger)
wait_error         how far the simulator's waits are off: |simulated - live| / live of the median
                   and of the 95th percentile over all arrivals of all shapes; the larger one.
                   A wait is what a job takes beyond drawing it in a full batch. (The ledger also
                   says when a job was claimed; but that is up to two images a decoder too early)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from autoscaling.simulator.simulation import simulate
from autoscaling.simulator.workload import Arrival, ColdStart
from jobs.job import Job, JobState
from scripts.autoscaling.lane import Decoders, LiveLane
from scripts.cluster import args_of, own_config, running
from scripts.load import percentile
from serve_app.config.serve_file import load_serve_config, parse_serve_config
from serve_app.operate.simulated import Assumptions, simulated

CONFIG = Path("configs/paced-autoscaling.yaml")
DRAWING_SECONDS = 2.4
"""Of one image of that file in a full batch: 12 passes of 100 + 4 x 25 ms."""
TICK_SECONDS = 0.25
"""How often the policy on Ray reads the ledger."""
PATIENCE_SECONDS = 120.0
QUICK = 0.5


@dataclass(frozen=True, slots=True)
class Shape:
    """rate: jobs a second at a second of it. step_at: when the load jumps, if it does. paid: asked
    by requests that were promised a short wait."""

    seconds: float
    rate: Callable[[float], float]
    step_at: float | None = None
    paid: bool = False

    def due(self, scale: float = 1.0) -> list[float]:
        """When each job is due: where the integral of the rate passes the next whole number.
        scale: of time; a tenth of the time has a tenth of the jobs."""
        found, work, moment = [], 0.0, 0.01
        for tick in range(int(self.seconds / moment)):
            work += self.rate(tick * moment) * moment * scale
            while work >= len(found) + 1:
                found.append(tick * moment * scale)
        return found


LEAST, MOST = 0.5, 7.0
"""Jobs a second; a decoder of configs/paced-autoscaling.yaml draws 1.67."""

SHAPES: Mapping[str, Shape] = {
    "step": Shape(30.0, lambda at: 20.0 if 10 <= at < 19 else 1.2, step_at=10.0, paid=True),
    "ramp": Shape(45.0, lambda at: LEAST + (MOST - LEAST) * at / 45),
    "sawtooth": Shape(54.0, lambda at: LEAST + (MOST - LEAST) * (at % 18) / 18),
    "pulse": Shape(40.0, lambda at: 3 * MOST if 10 <= at < 15 else LEAST, step_at=10.0),
}
"""Loads of less than a minute, the same ones every time."""


@dataclass(frozen=True, slots=True)
class Played:
    """One shape, live and simulated. waits, simulated: seconds of each job; the rest live."""

    name: str
    jobs: int
    failed: int
    attempts: int
    peak: int
    back_to_one: bool
    first_decision: float | None
    turns: int
    cold_starts: tuple[float, ...]
    waits: tuple[float, ...]
    simulated: tuple[float, ...]


def main() -> int:
    """Play all shapes; 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="half the time")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    options = parser.parse_args()
    scale = QUICK if options.quick else 1.0
    with tempfile.TemporaryDirectory(prefix="mp-scale-") as folder:
        config = own_config(load_serve_config(CONFIG), Path(folder))
        with running(config) as cluster:
            application = config["applications"][0]["name"]
            dsn = args_of(config)["ledger"]["dsn"]
            lane = LiveLane(cluster.serve, application, cluster.api_url, dsn)
            played = [asyncio.run(play(lane, config, name, scale)) for name in options.shapes]
    return report(played)


async def play(lane: LiveLane, config: dict[str, Any], name: str, scale: float) -> Played:
    """One shape: until every job has ended and one decoder is left."""
    shape = SHAPES[name]
    if shape.paid:
        lane = replace(lane, key="sk-plus", tenant="patron")
    before = {job.id for job in await asyncio.to_thread(lane.jobs)}
    seen: list[Decoders] = []
    watching = asyncio.create_task(lane.watch(seen))
    began = await lane.submit(shape.due(scale))
    jobs = await _ended(lane, before)
    back = await _back(lane)
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    starts = cold_starts(seen)
    jobs.sort(key=lambda job: job.created_at)
    print(f"{name}: {' '.join(f'{s.at - began:.0f}s {s.running}/{s.target}' for s in seen)}")
    return Played(
        name=name,
        jobs=len(jobs),
        failed=sum(job.state is not JobState.SUCCEEDED for job in jobs),
        attempts=sum(job.attempts + sum(r.attempts for r in job.renders) for job in jobs),
        peak=max(look.running for look in seen),
        back_to_one=back,
        first_decision=first_decision(seen, began, shape, scale),
        turns=turns([look.target for look in seen]),
        cold_starts=tuple(starts),
        waits=tuple(_wait((job.finished_at or 0.0) - job.created_at) for job in jobs),
        simulated=tuple(simulated_waits(config, jobs, starts)),
    )


async def _ended(lane: LiveLane, before: set[str]) -> list[Job]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        jobs = [job for job in await asyncio.to_thread(lane.jobs) if job.id not in before]
        if all(job.ended for job in jobs) or time.monotonic() > deadline:
            return jobs
        await asyncio.sleep(0.5)


async def _back(lane: LiveLane) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        now = await asyncio.to_thread(lane.decoders)
        if (now.target, now.running) == (1, 1):
            return True
        await asyncio.sleep(0.2)
    return False


def first_decision(
    seen: Sequence[Decoders], began: float, shape: Shape, scale: float
) -> float | None:
    """Seconds from the jump of the load to the first higher target; None without a jump."""
    if shape.step_at is None:
        return None
    step = began + shape.step_at * scale
    before = max((look.target for look in seen if look.at < step), default=1)
    return next((s.at - step for s in seen if s.at >= step and s.target > before), float("inf"))


def turns(targets: Sequence[int]) -> int:
    """How often the target changed its direction."""
    moves = [b - a for a, b in pairwise(targets) if a != b]
    return sum((a > 0) != (b > 0) for a, b in pairwise(moves))


def cold_starts(seen: Sequence[Decoders]) -> list[float]:
    """Seconds from asking for the n-th decoder until n run."""
    asked: dict[int, float] = {}
    took: list[float] = []
    for look in seen:
        for number in [n for n in asked if n > look.target]:
            del asked[number]
        for number in range(look.running + 1, look.target + 1):
            asked.setdefault(number, look.at)
        came = [number for number in asked if number <= look.running]
        took += [look.at - asked.pop(number) for number in came]
    return took


def simulated_waits(
    config: dict[str, Any], jobs: Sequence[Job], starts: list[float]
) -> list[float]:
    """The same arrivals on the fake clock, with the median of the cold starts that were seen."""
    cold = ColdStart(statistics.median(starts)) if starts else ColdStart(5.0)
    run = simulated(
        CONFIG, parse_serve_config(config, str(CONFIG)), None, Assumptions(cold_start=cold)
    )
    assert run.new_policy is not None
    first = jobs[0].created_at
    arrivals = [
        Arrival(job.created_at - first, job.request.tenant, job.request.tier) for job in jobs
    ]
    lane = replace(run.lane, tick_seconds=TICK_SECONDS)
    outcome = simulate(lane, arrivals, run.new_policy())
    return [_wait(job.turnaround_seconds or 0.0) for job in outcome.jobs]


def _wait(turnaround: float) -> float:
    return max(0.0, turnaround - DRAWING_SECONDS)


def report(played: Sequence[Played]) -> int:
    """The table and the JSON line."""
    print(
        "\nshape     jobs failed attempts peak back  first s turns  cold start s  "
        "wait live p50/p95  simulated p50/p95"
    )
    for one in played:
        print(
            f"{one.name:9} {one.jobs:4} {one.failed:6} {one.attempts:8} {one.peak:4} "
            f"{'yes' if one.back_to_one else 'NO':>4} {_cell(one.first_decision):>8} {one.turns:5} "
            f"{_cell(statistics.median(one.cold_starts) if one.cold_starts else None):>13} "
            f"{_quantiles(one.waits):>18} {_quantiles(one.simulated):>18}"
        )
    figures = {
        "first_decision_s": next((p.first_decision for p in played if p.name == "step"), None),
        "wait_error": wait_error(played),
    }
    print(json.dumps({key: value and round(value, 3) for key, value in figures.items()}))
    lost = sum(one.failed for one in played)
    return 0 if lost == 0 and all(one.back_to_one for one in played) else 1


def wait_error(played: Sequence[Played]) -> float:
    """See the head of this file."""
    live = [wait for one in played for wait in one.waits]
    ours = [wait for one in played for wait in one.simulated]
    pairs = [(percentile(live, q), percentile(ours, q)) for q in (50, 95)]
    return max(abs(b - a) / a for a, b in pairs)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _quantiles(waits: Sequence[float]) -> str:
    return f"{percentile(waits, 50):.2f} / {percentile(waits, 95):.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
