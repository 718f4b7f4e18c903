"""Run it: `python -m scripts.policies` (minutes), or with --quick (less than one)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoscaling.simulator.baselines import BASELINES
from scripts.policies import measures
from scripts.policies.loads import (
    TRACES,
    Load,
    bursty_loads,
    smooth_load,
    sparse_loads,
    tailed_loads,
    variation,
)
from scripts.policies.measures import MINUTE, SECONDS, Run, lane
from scripts.report import say, table

PROMISE_SECONDS = 60.0
GOALS = {
    "p95_wait_over_promise": ("<=", 1.0),
    "gpu_hours_over_lower_bound_60s": ("<=", 1.25),
    "gpu_hours_over_clairvoyant_60s": ("<=", 1.15),
    "gpu_hours_over_clairvoyant_5s": ("<=", 1.3),
    "ray_default_gpu_hours_over_ours": (">=", 1.8),
    "ray_tuned_gpu_hours_over_ours": (">=", 1.0),
    "direction_changes_per_min": ("<=", 1.0),
    "launch_day_s": ("<=", 60.0),
}


@dataclass(frozen=True, slots=True)
class Beside:
    """Ours on one load beside the bound, and beside Ray Serve's own policy. Ratios are inf where
    one of both does not keep the promise."""

    name: str
    variation: float
    run: Run
    ray: Run
    """With its defaults, and what no schedule goes below that waits no longer than it."""
    tuned: Run | None
    """Of Ray, with the settings that are cheapest on this load and keep our promise."""
    fair: Run | None
    """Of ours, waiting no longer than Ray with its defaults."""

    @property
    def ray_over_ours(self) -> float:
        return self.ray.gpu_hours / self.fair.gpu_hours if self.fair else float("inf")

    @property
    def tuned_over_ours(self) -> float:
        return self.tuned.gpu_hours / self.run.gpu_hours if self.tuned else float("inf")


def beside(load: Load, hindsight: bool) -> Beside:
    """One load's row. hindsight: with the best schedule that it finds."""
    name, arrivals = load
    there = lane(10.0)
    ours = measures.beside_hindsight if hindsight else measures.ours
    run = measures.with_bound(ours(there, arrivals, MINUTE), there, arrivals, PROMISE_SECONDS)
    ray, fair = measures.beside_baseline("ray-default", there, arrivals)
    ray = measures.with_bound(ray, there, arrivals, ray.p95)
    tuned = measures.tuned_ray(there, arrivals, PROMISE_SECONDS)
    return Beside(name, variation(arrivals), run, ray, tuned, fair)


def promises(bursty: Sequence[Load], tailed: Sequence[Load]) -> dict[str, float]:
    """The figures of a promise of 60 s with a cold start of 10 s, the worst over all loads, which
    are named; beside hindsight, over the bursty ones: with requests of several pictures,
    hindsight's plan for work as a fluid is far from the cheapest."""
    say(
        f"  {'':32} {'CV':>5} {'jobs':>5} {'work':>7} {'bound':>7} {'best':>7} {'ours':>7}"
        f" {'/bound':>6} {'p95 s':>6} | {'ray':>7} {'p95 s':>6} {'/bound':>6} {'ours*':>7} ratio"
        f" | {'tuned':>7} {'p95 s':>6} ratio"
    )
    rows = list[Beside]()
    for load in [*bursty, *tailed]:
        rows.append(beside(load, hindsight=len(rows) < len(bursty)))
        say_row(rows[-1], len(load[1]))
    latest = max(rows, key=lambda row: row.run.p95)
    dearest = max(rows, key=lambda row: row.run.over_bound)
    nearest = min(rows, key=lambda row: row.ray_over_ours)
    tuned = min(rows, key=lambda row: row.tuned_over_ours)
    say(
        f"  worst: waits {latest.name}; cost {dearest.name}; beside Ray {nearest.name}, where the"
        f" bound allows {nearest.ray.over_bound:.2f}; beside Ray tuned {tuned.name}"
    )
    return {
        "p95_wait_over_promise": latest.run.p95 / PROMISE_SECONDS,
        "gpu_hours_over_lower_bound_60s": dearest.run.over_bound,
        "ray_default_gpu_hours_over_ours": nearest.ray_over_ours,
        "ray_tuned_gpu_hours_over_ours": tuned.tuned_over_ours,
        "gpu_hours_over_clairvoyant_60s": max(
            row.run.over_optimum if row.run.p95 <= PROMISE_SECONDS else float("inf")
            for row in rows[: len(bursty)]
        ),
    }


def say_row(row: Beside, jobs: int) -> None:
    run, ray, nan = row.run, row.ray, float("nan")
    fair = row.fair.gpu_hours if row.fair else nan
    tuned, tuned_p95 = (row.tuned.gpu_hours, row.tuned.p95) if row.tuned else (nan, nan)
    say(
        f"  {row.name:32} {row.variation:5.1f} {jobs:5} {run.work_hours:7.2f}"
        f" {run.bound_hours:7.2f} {run.optimum_hours or nan:7.2f} {run.gpu_hours:7.2f}"
        f" {run.over_bound:6.3f} {run.p95:6.1f} | {ray.gpu_hours:7.2f} {ray.p95:6.1f}"
        f" {ray.over_bound:6.2f} {fair:7.2f} {row.ray_over_ours:5.2f}"
        f" | {tuned:7.2f} {tuned_p95:6.1f} {row.tuned_over_ours:5.2f}"
    )


def say_run(name: str, run: Run, load: Load, wait: float) -> None:
    late = "" if run.p95 <= wait else "  TOO LATE"
    best = f"{run.optimum_hours:7.2f}" if run.optimum_hours else "      -"
    say(
        f"  {name:44} {variation(load[1]):5.1f} {run.work_hours:7.2f} {best} "
        f"{run.gpu_hours:7.2f} {run.over_optimum:7.3f} {run.p95:7.1f}{late}"
    )


def other_lanes(load: Load) -> None:
    """What a longer cold start and wider replicas change."""
    for what, there in (("4 pictures a GPU", lane(10.0, 4)), ("cold start 22.7 s", lane(22.7))):
        run = measures.beside_hindsight(there, load[1], MINUTE)
        say_run(f"{load[0]}, {what}", run, load, 60.0)


def five_seconds(smooth: Load, bursty: Load, more: bool) -> float:
    """On the smooth load with a cold start of 3 s; the bursty one is reported only."""
    run = measures.beside_hindsight(lane(3.0), smooth[1], SECONDS)
    say_run(smooth[0], run, smooth, 5.0)
    if more:
        again = measures.beside_hindsight(lane(3.0, 4), smooth[1], SECONDS)
        say_run(f"{smooth[0]}, 4 pictures a GPU", again, smooth, 5.0)
        again = measures.beside_hindsight(lane(3.0), bursty[1], SECONDS)
        say_run(f"{bursty[0]}, reported only", again, bursty, 5.0)
    return run.over_optimum if run.p95 <= 5.0 else float("inf")


def rivals(loads: Sequence[Load]) -> None:
    """Other autoscalers' GPU-hours over ours, on each of these loads."""
    for name, load in loads:
        for baseline in BASELINES:
            theirs, ours = measures.beside_baseline(baseline, lane(10.0), load)
            if ours is None:
                continue
            ratio = theirs.gpu_hours / ours.gpu_hours
            say(
                f"  {name:44} {baseline:12} {theirs.gpu_hours:7.2f} {theirs.p95:7.1f}"
                f" {ours.gpu_hours:7.2f} {ours.p95:7.1f} {ratio:7.2f}"
            )


def pulses(seeds: int) -> float:
    """The mean over the seeds, of that set of numbers which moves more."""
    found = []
    for numbers, cold_start in ((MINUTE, 10.0), (SECONDS, 3.0)):
        each = [measures.changes_per_minute(seed, cold_start, numbers) for seed in range(seeds)]
        found.append(sum(each) / seeds)
        shown = " ".join(f"{changes:.2f}" for changes in each)
        say(f"  p95 wait {numbers.wait_seconds:g} s, cold start {cold_start:g} s: {shown}")
    return max(found)


def report(directory: Path, quick: bool) -> dict[str, float]:
    """All keys."""
    bursty = list(bursty_loads(directory, 1 if quick else 2))
    tailed = [*tailed_loads(1), *sparse_loads(1)]
    smooth = smooth_load(directory)
    say(
        "GPU-hours and p95 waits beside a lower bound, hindsight and Ray Serve's own policy,\n"
        "promise 60 s, cold start 10 s (ours*: with no longer a wait than Ray's; Ray's /bound: of\n"
        "what waits no longer than it; tuned: Ray with the settings that are best on this load)"
    )
    found = promises(bursty, tailed[::3] if quick else tailed)
    run = measures.ours(lane(10.0), smooth[1], MINUTE)
    say(f"{smooth[0]}, waits only: {run.gpu_hours:.2f} GPU-hours, p95 wait {run.p95:.1f} s")
    found["p95_wait_over_promise"] = max(found["p95_wait_over_promise"], run.p95 / PROMISE_SECONDS)
    head = f"{'':44} {'CV':>5} {'work':>7} {'best':>7} {'ours':>7} {'ratio':>7} {'p95 s':>7}"
    if not quick:
        say(f"GPU-hours beside the best in hindsight, p95 wait 60 s, reported only\n  {head}")
        other_lanes(bursty[0])
    say(f"the same, p95 wait 5 s, cold start 3 s\n  {head}")
    found["gpu_hours_over_clairvoyant_5s"] = five_seconds(smooth, bursty[0], not quick)
    say(
        "GPU-hours and p95 wait of rivals, and of ours with no longer a wait, cold start 10 s\n"
        f"  {'':57} theirs   p95 s    ours   p95 s   ratio"
    )
    rivals([bursty[-1]] if quick else [bursty[0], bursty[-1], smooth])
    say("changes of direction per minute after ten times the load for five minutes")
    found["direction_changes_per_min"] = pulses(2 if quick else 5)
    found["launch_day_s"], day = measures.launch_day_seconds()
    say(f"launch day, simulated: {day.gpu_hours:.0f} GPU-hours, p95 wait {day.p95:.1f} s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What scaling policies cost, simulated.")
    parser.add_argument(
        "--traces",
        type=Path,
        default=TRACES,
        metavar="DIR",
        help="where the Azure 2023 traces are (without them, drawn ones)",
    )
    parser.add_argument("--quick", action="store_true", help="less than a minute")
    options = parser.parse_args()
    began = time.monotonic()
    if not (options.traces / "AzureLLMInferenceTrace_code.csv").exists():
        say(f"no recorded traces in {options.traces}: only drawn ones")
    found = report(options.traces, options.quick)
    for line in table(GOALS, {"found": found}):
        say(line)
    seconds = round(time.monotonic() - began, 1)
    say(json.dumps({key: round(value, 4) for key, value in found.items()} | {"seconds": seconds}))


if __name__ == "__main__":
    main()
