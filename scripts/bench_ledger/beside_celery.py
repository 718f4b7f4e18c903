"""Our ledger and Celery on Redis with the same workload, one after the other on this machine:
`python -m scripts.bench_ledger.beside_celery` is one process of either side.

The workload: two producers, three workers of eight slots, jobs of four passes that take no time.
Ours writes a checkpoint of 1 KB after every pass and settles under the fence; Celery, with the
settings of Ray Serve's adapter (late acknowledgement, threads, results kept so that they can be
asked for), writes neither checkpoint nor progress.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis

from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger.backlog import LANE, beat, finish, submit_all, wish
from scripts.children import await_ready, children, tell

PRODUCERS, WORKERS = 2, 3
LIMIT_SECONDS = 60.0
_MODULE = "scripts.bench_ledger.beside_celery"
_WORKER = ["-q", "-A", _MODULE, "worker", "-P", "threads", "-c", "8", "-l", "ERROR"]
_WORKER += ["--without-gossip", "--without-mingle"]
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


def our_jobs_per_s(url: str, jobs: int) -> float:
    """From the start of the producers until the last job has succeeded."""
    ledger = SqlLedger(url)
    ledger.submit(wish("nobody", lane="other"))
    work = [["-m", _MODULE, "work", url, f"w{i}"] for i in range(WORKERS)]
    each = str(jobs // PRODUCERS)
    produce = [["-m", _MODULE, "produce", url, each, f"p{i}"] for i in range(PRODUCERS)]

    def left() -> int:
        depth = ledger.depth(LANE)
        return depth.queued_jobs + depth.active_jobs

    try:
        with children(work, stderr=subprocess.DEVNULL) as workers:
            await_ready(workers)
            return jobs / _seconds(produce, lambda: left() == 0)
    finally:
        ledger.close()


@contextmanager
def celery() -> Iterator[Callable[[int], float]]:
    """The same for Celery, by a number of jobs; redis-server appends to its file and syncs it every
    second."""
    with _redis() as broker:
        os.environ["BENCH_BROKER"] = broker
        redis = _client(broker)

        def jobs_per_s(jobs: int) -> float:
            redis.flushall()
            produce = [["-m", _MODULE, "produce-celery", str(jobs // PRODUCERS)]] * PRODUCERS
            work = [["-m", "celery", *_WORKER, "-n", f"w{i}@bench"] for i in range(WORKERS)]
            with children(work, stderr=subprocess.DEVNULL):
                _await_workers()
                return jobs / _seconds(produce, lambda: int(redis.get("done") or 0) >= jobs)

        yield jobs_per_s


def _await_workers() -> None:
    app.conf.broker_url = os.environ["BENCH_BROKER"]
    deadline = time.monotonic() + 30
    while len(app.control.ping(timeout=1)) < WORKERS:
        assert time.monotonic() < deadline, "the Celery workers did not come up"


def _seconds(produce: list[list[str]], finished: Callable[[], bool]) -> float:
    with children(produce, stderr=subprocess.DEVNULL) as producers:
        await_ready(producers)
        began = time.perf_counter()
        for producer in producers:
            tell(producer, "go")
        while any(producer.poll() is None for producer in producers) or not finished():
            assert time.perf_counter() - began < LIMIT_SECONDS, "jobs are missing"
            time.sleep(0.25)  # looking costs the ledger something, too
        return time.perf_counter() - began


@contextmanager
def _redis() -> Iterator[str]:
    """A redis-server of our own on a unix socket; its URL for Celery."""
    server = shutil.which("redis-server")
    if server is None:
        raise FileNotFoundError("redis-server is not installed: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        socket = Path(folder) / "redis.sock"
        settings = ["--port", "0", "--unixsocket", str(socket), "--dir", folder]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        process = subprocess.Popen([server, *settings, *durable], stdout=subprocess.DEVNULL)
        try:
            while not socket.exists():
                time.sleep(0.05)
            yield f"redis+socket://{socket}"
        finally:
            process.terminate()
            process.wait()


def _client(broker: str) -> Redis:
    return Redis(unix_socket_path=broker.removeprefix("redis+socket://"))


done = _client(BROKER)


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
