"""Our ledger and Celery on Redis with the same workload, one after the other on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger.backlog import LANE, wish
from scripts.children import await_ready, children, tell

PRODUCERS, WORKERS = 2, 3
LIMIT_SECONDS = 60.0
_MODULE = "scripts.bench_ledger.workers"
_WORKER = ["-q", "-A", _MODULE, "worker", "-P", "threads", "-c", "8", "-l", "ERROR"]
_WORKER += ["--without-gossip", "--without-mingle"]


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
        redis = Redis(unix_socket_path=broker.removeprefix("redis+socket://"))

        def jobs_per_s(jobs: int) -> float:
            redis.flushall()
            produce = [["-m", _MODULE, "produce-celery", str(jobs // PRODUCERS)]] * PRODUCERS
            work = [["-m", "celery", *_WORKER, "-n", f"w{i}@bench"] for i in range(WORKERS)]
            with children(work, stderr=subprocess.DEVNULL):
                _await_workers()
                return jobs / _seconds(produce, lambda: int(redis.get("done") or 0) >= jobs)

        yield jobs_per_s


def _await_workers() -> None:
    from scripts.bench_ledger.workers import app

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
