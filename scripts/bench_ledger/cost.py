"""What one job costs the database and its clients, in CPU, log and rows; docs/scale.md does its
arithmetic with these figures.

Many callers of one process submit; then one client claims sixteen at a time, beats three times with
a checkpoint of 1 KB, and settles; then all of it is forgotten. What else the machine does costs a
quarter more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import psutil
import psycopg

from jobs.blobs.collector import Collector
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.request import ImageRequest
from jobs.retention import Retention
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger.backlog import LANE, beat, finish, submit_all, wish
from scripts.postgres import LocalPostgres

CALLERS, AT_ONCE, BEATS = 32, 16, 3
LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU milliseconds of the server's processes and of ours, and bytes of its log."""

    server_ms: float
    client_ms: float
    log_bytes: int

    def since(self, before: Spent, jobs: int) -> dict[str, float]:
        """Per job."""
        return {
            "server_cpu_ms": round((self.server_ms - before.server_ms) / jobs, 3),
            "client_cpu_ms": round((self.client_ms - before.client_ms) / jobs, 3),
            "log_bytes": round((self.log_bytes - before.log_bytes) / jobs),
        }


def spent(server: LocalPostgres) -> Spent:
    """Until now. Connections must stay open meanwhile: an ended process is not counted."""
    postmaster = psutil.Process(server.pid)
    processes = [postmaster, *postmaster.children(recursive=True)]
    times = [process.cpu_times() for process in processes]
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    own = psutil.Process().cpu_times()
    assert row is not None
    return Spent(
        1000 * sum(t.user + t.system for t in times), 1000 * (own.user + own.system), int(row[0])
    )


async def forget(front: AsyncLedger) -> None:
    """As a collector does, without blobs, until nothing is left."""
    with TemporaryDirectory() as directory:
        collector = Collector(front, DirectoryBlobs(directory), LANE, Retention(0, 0, 0, 0))
        while await collector.turn():
            pass


def submit(front: AsyncLedger, jobs: int) -> None:
    """As gateways do: by many callers, committed together."""

    def order(number: int) -> ImageRequest:
        return wish(f"tenant-{number % 997}", idempotency_key=f"key-{number}")

    asyncio.run(submit_all(front, jobs, CALLERS, order))


def draw(ledger: SqlLedger) -> None:
    """As a dispatcher does, without drawing anything, until the queue is empty."""
    while jobs := ledger.claim(LANE, "cost", AT_ONCE, LEASE_SECONDS):
        for number in range(1, BEATS + 1):
            ledger.renew([beat(job, number, BEATS) for job in jobs], LEASE_SECONDS)
        ledger.together([finish(ledger, job) for job in jobs])


def measure(server: LocalPostgres, jobs: int) -> dict[str, object]:
    """Both halves of a job's life, and what its rows take on disk."""
    ledger = SqlLedger(server.create_database("cost"))
    front = AsyncLedger(ledger)
    submit(front, 200)  # connections, plans and caches are made once
    draw(ledger)
    start = spent(server)
    submit(front, jobs)
    with psycopg.connect(server.url("cost"), autocommit=True) as connection:
        connection.execute("analyze")  # as autovacuum does, a minute later
    half = spent(server)
    draw(ledger)
    drawn = spent(server)
    with psycopg.connect(server.url("cost"), autocommit=True) as connection:
        connection.execute("vacuum full")  # what is dead is reused sooner or later
        size = "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r'"
        row = connection.execute(f"{size} and relname in ('jobs', 'renders')".encode()).fetchone()
    vacuumed = spent(server)
    asyncio.run(forget(front))
    gone = spent(server)
    front.close()
    assert row is not None
    return {
        "submit": half.since(start, jobs),
        "run": drawn.since(half, jobs),
        "forget": gone.since(vacuumed, jobs),
        "row_bytes": round(int(row[0]) / jobs),
    }
