"""Both sides of the comparison with Celery, as processes: `python -m scripts.bench_ledger.workers`.

The workload: two producers, three workers of eight slots, jobs of four passes that take no time.
Ours writes a checkpoint of 1 KB after every pass and settles under the fence; Celery, with the
settings of Ray Serve's adapter (late acknowledgement, threads, results kept so that they can be
asked for), writes neither checkpoint nor progress.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from functools import partial
from typing import Any

from celery import Celery
from redis import Redis

from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger.backlog import LANE, beat, finish, submit_all, wish

PASSES, SLOTS, CALLERS = 4, 8, 16
LEASE_SECONDS = 30.0
BROKER = os.environ.get("BENCH_BROKER", "")

app = Celery("bench", broker=BROKER, backend=BROKER)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=False,
    broker_connection_retry_on_startup=True,
)
done = Redis(unix_socket_path=BROKER.removeprefix("redis+socket://"))


@app.task(name="draw")
def draw(number: int) -> None:
    """One job: passes that take no time, then one effect that can be counted."""
    for _ in range(PASSES):
        time.sleep(0)
    done.incr("done")


def _at_the_gun() -> None:
    """Say that everything is imported, and wait for the start."""
    print("ready", flush=True)
    sys.stdin.readline()


def produce_for_celery(jobs: int) -> None:
    draw.app.connection_for_write().ensure_connection()
    _at_the_gun()
    for number in range(jobs):
        draw.delay(number)


def produce_for_us(url: str, jobs: int, name: str) -> None:
    async def run() -> None:
        front = AsyncLedger(SqlLedger(url))
        _at_the_gun()
        await submit_all(front, jobs, CALLERS, lambda i: wish(f"{name}-{i % 50}"))
        await asyncio.to_thread(front.close)

    asyncio.run(run())


def work_for_us(url: str, name: str) -> None:
    """Claim what fits, a heartbeat with every pass, settle and claim again: as a dispatcher does,
    without images. What it writes at the same time shares a transaction there, too. Until the
    process is ended."""
    ledger = SqlLedger(url)
    claim = partial(ledger.claim, LANE, name, SLOTS, LEASE_SECONDS)
    print("ready", flush=True)
    seen = -1
    jobs: list[Job] = []
    while True:
        if not jobs:
            seen_before, seen = seen, ledger.version()
            jobs = claim()
            if not jobs and seen == seen_before:
                time.sleep(0.005)
            continue
        for pass_no in range(1, PASSES + 1):
            ledger.renew([beat(job, pass_no, PASSES) for job in jobs], LEASE_SECONDS)
        settled: list[Any] = [finish(ledger, job) for job in jobs]
        *results, jobs = ledger.together([*settled, claim])
        for result in [*results, jobs]:
            if isinstance(result, Exception):
                raise result


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "produce-celery":
        produce_for_celery(int(arguments[0]))
    elif what == "produce":
        produce_for_us(arguments[0], int(arguments[1]), arguments[2])
    elif what == "work":
        work_for_us(*arguments)


if __name__ == "__main__":
    main()
