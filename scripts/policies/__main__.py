"""Run it: `python -m scripts.policies` (minutes), or with --quick (less than one)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from scripts.policies import measures
from scripts.policies.measures import (
    MINUTE,
    SECONDS,
    TRACES,
    Load,
    Run,
    bursty_loads,
    lane,
    smooth_load,
    variation,
)
from scripts.report import say, table

GOALS = {
    "gpu_hours_over_clairvoyant_60s": ("<=", 1.15),
    "gpu_hours_over_clairvoyant_5s": ("<=", 1.3),
    "ray_default_gpu_hours_over_ours": (">=", 1.25),
    "direction_changes_per_min": ("<=", 1.0),
    "launch_day_s": ("<=", 60.0),
}


def say_run(name: str, run: Run, load: Load, wait: float) -> None:
    late = "" if run.p95 <= wait else "  TOO LATE"
    best = f"{run.optimum_hours:7.2f}" if run.optimum_hours else "      -"
    say(
        f"  {name:44} {variation(load[1]):5.1f} {run.work_hours:7.2f} {best} "
        f"{run.gpu_hours:7.2f} {run.over_optimum:7.3f} {run.p95:7.1f}{late}"
    )


def a_minute(loads: Sequence[Load], more: bool) -> float:
    """The worst over all bursty loads with a cold start of 10 s. inf: somewhere p95 was missed."""
    worst = 0.0
    for load in loads:
        run = measures.beside_hindsight(lane(10.0), load[1], MINUTE)
        say_run(load[0], run, load, 60.0)
        worst = max(worst, run.over_optimum if run.p95 <= 60.0 else float("inf"))
    if more:
        load = loads[0]
        for what, there in (("4 pictures a GPU", lane(10.0, 4)), ("cold start 22.7 s", lane(22.7))):
            run = measures.beside_hindsight(there, load[1], MINUTE)
            say_run(f"{load[0]}, {what}", run, load, 60.0)
    return worst


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


def rivals(loads: Sequence[Load]) -> float:
    """Ray Serve's GPU-hours over ours, the least over these loads."""
    least = float("inf")
    for name, load in loads:
        for baseline, theirs, ours in measures.beside_baselines(lane(10.0), load):
            ratio = theirs.gpu_hours / ours.gpu_hours
            say(
                f"  {name:44} {baseline:12} {theirs.gpu_hours:7.2f} {theirs.p95:7.1f}"
                f" {ours.gpu_hours:7.2f} {ours.p95:7.1f} {ratio:7.2f}"
            )
            if baseline == "ray-default":
                least = min(least, ratio)
    return least


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
    bursty = list(bursty_loads(directory, 1 if quick else 3))
    smooth = smooth_load(directory)
    head = f"{'':44} {'CV':>5} {'work':>7} {'best':>7} {'ours':>7} {'ratio':>7} {'p95 s':>7}"
    found = dict[str, float]()
    say(f"GPU-hours beside the best in hindsight, p95 wait 60 s, cold start 10 s\n  {head}")
    found["gpu_hours_over_clairvoyant_60s"] = a_minute(bursty, not quick)
    say(f"the same, p95 wait 5 s, cold start 3 s\n  {head}")
    found["gpu_hours_over_clairvoyant_5s"] = five_seconds(smooth, bursty[0], not quick)
    say(
        "GPU-hours and p95 wait of rivals, and of ours with no longer a wait, cold start 10 s\n"
        f"  {'':57} theirs   p95 s    ours   p95 s   ratio"
    )
    found["ray_default_gpu_hours_over_ours"] = rivals(bursty[:1] if quick else bursty)
    if not quick:
        say("  on the smooth load, reported only:")
        rivals([smooth])
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
