"""`python -m scripts.fairness`: prints what it does and a table; the last line is one JSON object
with the figures of each database."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from scripts.fairness import measures
from scripts.fairness.measures import Fresh, p99
from scripts.postgres import DATABASES
from scripts.report import say, table

GOALS = {
    "jain": (">=", 0.99),
    "paid_p99_flood_over_half_load": ("<=", 1.2),
    "api_p99_flood_over_alone": ("<=", 1.25),
}


def figures(fresh: Fresh, seconds: float, pairs: int) -> dict[str, float]:
    """The keys of one database."""
    indexes = measures.equal_tenants(fresh, windows=3, jobs_each=20)
    say(f"  ten equal tenants, Jain's index of each window: {[round(i, 4) for i in indexes]}")
    alone, flooded = measures.paid_pair(fresh, seconds, seed=1)
    say_pair("paid at half load, and under ten times as many free jobs", alone, flooded)
    lanes = []
    for number in range(pairs):
        lanes.append(measures.lanes_pair(fresh, seconds / 3, seed=10 * number))
        say_pair("api alone, and beside a chat lane at ten times its capacity", *lanes[-1])
    return {
        "jain": min(indexes),
        "paid_p99_flood_over_half_load": p99(flooded) / p99(alone),
        "api_p99_flood_over_alone": measures.median_ratio(lanes),
    }


def say_pair(what: str, alone: list[float], with_load: list[float]) -> None:
    middle = [values[len(values) // 2] for values in (alone, with_load)]
    say(
        f"  {what}: {len(alone)} jobs, p50 {middle[0]:.2f} and {middle[1]:.2f} s, "
        f"p99 {p99(alone):.2f} and {p99(with_load):.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure who waits for whom.")
    parser.add_argument("--databases", nargs="+", default=list(DATABASES), choices=DATABASES)
    parser.add_argument("--seconds", type=float, default=36.0, help="of load in the longest runs")
    parser.add_argument("--pairs", type=int, default=5, help="runs of the two lanes")
    options = parser.parse_args()
    began = time.monotonic()
    report: dict[str, dict[str, float]] = {}
    for name in options.databases:
        say(name)
        fresh = partial(DATABASES[name], Path(gettempdir()))
        found = figures(fresh, options.seconds, options.pairs)
        report[name] = {key: round(value, 4) for key, value in found.items()}
    for line in table(GOALS, report):
        say(line)
    seconds = round(time.monotonic() - began, 1)
    pace = measures.PACE
    shape = f"{pace.slots} slots, {pace.passes} passes of {pace.pass_ms} ms"
    say(json.dumps({**report, "lane": shape, "seconds": seconds}))


if __name__ == "__main__":
    main()
