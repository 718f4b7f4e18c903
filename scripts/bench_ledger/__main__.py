"""`python -m scripts.bench_ledger`: prints what it does; the last line is one JSON object
with the figures of each database. `--cost JOBS` instead: what one job costs PostgreSQL."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger import beside_celery, cost, measures
from scripts.bench_ledger.backlog import Backlog, fill
from scripts.postgres import DATABASES, LocalPostgres
from scripts.report import say

CLAIMS = 200
AFTER = 40_000
ENQUEUED = 10_000
SIGNUPS = 5_000
BESIDE_CELERY = 10_000


def million(url: str, queued: int) -> dict[str, float]:
    """What needs a long queue."""
    ledger = SqlLedger(url, tiers=measures.TIERS)
    began = time.perf_counter()
    fill(ledger, url, Backlog(queued, tenants=1000))
    say(f"  {queued:,} jobs queued in {time.perf_counter() - began:.0f} s")
    found = {"claim8_p95_ms_at_1m": measures.claim_p95_ms(ledger, CLAIMS)}
    found["drain_jobs_per_s"] = measures.drain_jobs_per_s(ledger, AFTER)
    found["claim8_p95_ms_after_40k"] = measures.claim_p95_ms(ledger, CLAIMS)
    ledger.close()
    return found


def short(url: str, jobs: int) -> dict[str, float]:
    """What needs an empty one."""
    ledger = SqlLedger(url, tiers=measures.TIERS)
    found = {"enqueue_per_s": measures.enqueue_per_s(ledger, jobs, callers=64)}
    found["signups_per_s"] = measures.signups_per_s(ledger, SIGNUPS, callers=64)
    other = SqlLedger(url, tiers=measures.TIERS)
    found["start_latency_p50_ms"] = measures.start_latency_p50_ms(ledger, other, times=40)
    return found


def beside(names: Sequence[str], folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """The same workload through Celery and through us, in turns; medians of the rounds, by
    database. A ratio is of two that ran one after the other."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with beside_celery.celery() as celery:
        for number in range(rounds):
            theirs = celery(BESIDE_CELERY)
            say(f"round {number + 1}: Celery {theirs:.0f} jobs/s without checkpoints and fences")
            for name in names:
                with DATABASES[name](folder) as url:
                    ours = beside_celery.our_jobs_per_s(url, BESIDE_CELERY)
                say(f"  {name} {ours:.0f} with them, {ours / theirs:.2f}")
                runs[name].append((ours, ours / theirs))
    return {
        name: {
            "jobs_per_s": median(ours for ours, _ in found),
            "jobs_per_s_over_celery_redis": median(ratio for _, ratio in found),
        }
        for name, found in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the ledger on each of its databases.")
    parser.add_argument("--databases", nargs="+", default=list(DATABASES), choices=DATABASES)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="beside Celery")
    parser.add_argument("--folder", type=Path, default=Path("var/bench-ledger"))
    parser.add_argument("--cost", type=int, metavar="JOBS", help="only what one job costs")
    options = parser.parse_args()
    if options.cost:
        with LocalPostgres() as server:
            say(json.dumps({"postgresql": cost.measure(server, options.cost)}))
        return
    began = time.monotonic()
    report: dict[str, object] = {}
    rivals = beside(options.databases, options.folder, options.rounds)
    for name in options.databases:
        say(name)
        figures: dict[str, float] = {}
        with DATABASES[name](options.folder) as url:
            figures |= million(url, options.queued)
        with DATABASES[name](options.folder) as url:
            figures |= short(url, ENQUEUED)
        figures |= rivals[name]
        report[name] = {key: round(value, 2) for key, value in figures.items()}
        say(f"  {report[name]}")
    report["seconds"] = round(time.monotonic() - began, 1)
    say(json.dumps(report))


if __name__ == "__main__":
    main()
