"""`python -m scripts.bench_ledger`: prints what it does; the last line is one JSON object
with the figures of each database."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from jobs.sql_ledger import SqlLedger
from scripts.bench_ledger import beside_celery, measures
from scripts.bench_ledger.backlog import Backlog, fill
from scripts.bench_ledger.databases import DATABASES

CLAIMS = 200
AFTER = 40_000
ENQUEUED = 10_000
SIGNUPS = 5_000
BESIDE_CELERY = 10_000


def say(line: str) -> None:
    print(line, flush=True)


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


def beside(url: str, celery: float) -> dict[str, float]:
    """The same workload through us, over what Celery did."""
    ours = beside_celery.our_jobs_per_s(url, BESIDE_CELERY)
    say(f"  {ours:.0f} jobs/s with checkpoints and fences, Celery {celery:.0f} without")
    return {"jobs_per_s": ours, "jobs_per_s_over_celery_redis": ours / celery}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the ledger on each of its databases.")
    parser.add_argument("--databases", nargs="+", default=list(DATABASES), choices=DATABASES)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path("var/bench-ledger"))
    options = parser.parse_args()
    began = time.monotonic()
    report: dict[str, object] = {}
    celery = beside_celery.celery_jobs_per_s(BESIDE_CELERY)
    for name in options.databases:
        say(name)
        figures: dict[str, float] = {}
        with DATABASES[name](options.folder) as url:
            figures |= million(url, options.queued)
        with DATABASES[name](options.folder) as url:
            figures |= short(url, ENQUEUED)
        with DATABASES[name](options.folder) as url:
            figures |= beside(url, celery)
        report[name] = {key: round(value, 2) for key, value in figures.items()}
        say(f"  {report[name]}")
    report["celery_jobs_per_s"] = round(celery, 1)
    report["seconds"] = round(time.monotonic() - began, 1)
    say(json.dumps(report))


if __name__ == "__main__":
    main()
