"""The ledger's verbs while the database grows: jobs that wait, tenants, pictures that are kept.

One database grows through all sizes: a job that really went through the verbs is copied by the
database itself. Commits do not wait for the disk: that costs the same at every size, and would hide
what grows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.pool import Pool

from jobs.operating import JobFilter
from jobs.request import Tenant
from jobs.retention import Retention, Step
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from scripts.bench_ledger.backlog import (
    LANE,
    TIER,
    WHALE,
    Backlog,
    beat,
    copy,
    finish,
    recount,
    wish,
)
from scripts.growth.fit import Kind, Row
from scripts.postgres import FAST, LocalPostgres, side_door
from scripts.postgres import sqlite as sqlite_without_disk
from scripts.report import say

TIERS = {TIER: Tier(weight=1.0, images_per_day=100_000_000, concurrent_renders=1000)}
LEASE_SECONDS = 3600.0
TENANTS = 1000
AT_ONCE = 8
CHUNK = 1_000_000
"""Copied in one transaction: SQLite's log of it takes as much room as the rows."""
MONTH_SECONDS = 30 * 86_400
KEPT = Retention(MONTH_SECONDS, MONTH_SECONDS, MONTH_SECONDS, MONTH_SECONDS)

# Spread over the last weeks, none of them within the minute that a lane's pace is read of.
_AGE = "3600.0 + 0.2 * (10000000 - i)"
_ENDED = {
    "created_at": f"created_at - {_AGE}",
    "started_at": f"started_at - {_AGE}",
    "finished_at": f"finished_at - {_AGE}",
}
_USED = """insert into usage (hour, tenant, model, size, source, part, images, requests,
        gpu_seconds, joules)
    select 3600 * cast(max(finished_at) / 3600 as bigint), tenant, 'tokens', '256x256', '', 0,
        count(*), count(*), 1.0, 0.0
    from jobs where finished_at is not null group by tenant"""


@dataclass(frozen=True, slots=True)
class Growing:
    """What there is more and more of. waits: jobs that wait, and not such that have ended.
    own_tenant: each of a tenant of its own."""

    name: str
    waits: bool
    own_tenant: bool = False

    def grow(self, ledger: SqlLedger, url: str, first: int, size: int) -> None:
        """From `first` of them to `size`, plus the few that the measurements left."""
        template = ledger.submit(wish(WHALE)).job.id
        own: dict[str, str] = {}
        if not self.waits:
            _draw(ledger, template)
            own |= _ENDED
        if self.own_tenant:
            own["tenant"] = "'tenant-' || i"
        for begin in range(first, size, CHUNK):
            backlog = Backlog(min(begin + CHUNK, size), TENANTS)
            copy(url, template, begin, backlog, own)
        recount(url, template)
        if not self.waits:
            with closing_engine(url) as connection:
                connection.execute(text("delete from usage"))
                connection.execute(text(_USED))


WAITING = Growing("jobs waiting", waits=True)
TENANTS_KNOWN = Growing("tenants", waits=False, own_tenant=True)
PICTURES = Growing("pictures kept", waits=False)


@contextmanager
def closing_engine(url: str) -> Iterator[Any]:
    """One transaction beside the ledger."""
    engine = side_door(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def _draw(ledger: SqlLedger, job_id: str) -> None:
    """Bring that job through all of its life. The queue is empty but for it."""
    (job,) = ledger.claim(LANE, "bench", 1, LEASE_SECONDS)
    assert job.id == job_id
    ledger.renew([beat(job, 4, 4)], LEASE_SECONDS)
    finish(ledger, job)()


@event.listens_for(Pool, "checkout")
def _do_not_wait_for_the_disk(connection: Any, _record: object, _proxy: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**FAST, "shared_buffers": "512MB", "max_wal_size": "1GB", "wal_level": "minimal",
                "max_wal_senders": "0"}  # fmt: skip
    with LocalPostgres(settings, folder.resolve()) as server:
        yield server.url()


DATABASES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": sqlite_without_disk,
    "postgresql": _postgresql,
}


def measure(
    growing: Growing, database: str, sizes: Sequence[int], repeats: int, folder: Path
) -> list[Row]:
    """Every verb at each of these sizes."""
    found: dict[str, dict[int, Sequence[float]]] = {}
    disk: dict[int, Sequence[float]] = {}
    with DATABASES[database](folder) as url:
        first = 0
        for size in sizes:
            began = time.perf_counter()
            with closing(SqlLedger(url, tiers=TIERS)) as ledger:
                growing.grow(ledger, url, first, size)
            filled = time.perf_counter()
            # As a process that has just started: with the statistics of now, and nothing cached.
            with closing(SqlLedger(url, tiers=TIERS)) as ledger:
                timings = _verbs(ledger, repeats) | _first_looks(url, max(3, repeats // 3))
                for what, spent in timings.items():
                    found.setdefault(what, {})[size] = spent
            disk[size] = [_bytes(url) / 2**20]
            first = size
            say(f"  {growing.name}, {database}: {size:,} there after {filled - began:.1f} s, "
                f"measured in {time.perf_counter() - filled:.1f} s")  # fmt: skip
    rows = [Row(growing.name, database, what, "ms", Kind.OPERATION, n) for what, n in found.items()]
    return [*rows, Row(growing.name, database, "disk", "MiB", Kind.TOTAL, disk)]


def _bytes(url: str) -> int:
    with closing_engine(url) as connection:
        if connection.dialect.name == "sqlite":
            return os.stat(connection.engine.url.database).st_size
        query = "select pg_database_size(current_database())"
        return int(connection.execute(text(query)).scalar_one())


def _verbs(ledger: SqlLedger, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of every call. It leaves the queue as long as it was: what is ordered here is
    drawn here."""
    spent: dict[str, list[float]] = {}

    def timed(what: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        spent.setdefault(what, []).append(1000 * (time.perf_counter() - began))
        return result

    for number in range(repeats):
        orders = [wish(f"tenant-{number % TENANTS}")] * AT_ONCE
        timed("accept 8", _each(ledger.submit, orders))
        newcomer = wish(f"new-{time.time_ns()}")
        new = timed("accept a newcomer", partial(ledger.submit, newcomer)).job
        timed("poll a waiting job", _each(lambda ask: ask(), _poll(ledger, new.id)))
        claim = partial(ledger.claim, LANE, "bench", lease_seconds=LEASE_SECONDS)
        jobs = [*timed("claim 8", partial(claim, limit=AT_ONCE)), *claim(limit=1)]
        assert len(jobs) == AT_ONCE + 1, "the queue was too short"
        beats = [beat(job, 1, 4) for job in jobs]
        timed("beat of 9", partial(ledger.renew, beats, LEASE_SECONDS))
        timed("finish 9", partial(ledger.together, [finish(ledger, job) for job in jobs]))
        timed("poll a finished job", partial(ledger.get, jobs[0].id))
        timed("rescue", ledger.expire)
        timed("depth", partial(ledger.depth, LANE))
        timed("newest of a tenant", partial(ledger.recent, WHALE, 20))
        timed("limits of a tenant", partial(ledger.standing, Tenant(WHALE, TIER), LANE))
        timed("page for an operator", partial(ledger.find_jobs, JobFilter(), 20))
        timed("retention, nothing due", partial(ledger.retire, LANE, Step.ROWS, KEPT))
    return spent


def _first_looks(url: str, repeats: int) -> dict[str, list[float]]:
    """Of clients that have just come, and remember no queue from a moment ago."""
    spent = []
    for _ in range(repeats):
        with closing(SqlLedger(url, tiers=TIERS)) as ledger:
            ledger.version()
            began = time.perf_counter()
            ledger.depth(LANE)
            spent.append(1000 * (time.perf_counter() - began))
    return {"depth, first look": spent}


def _each(call: Callable[[Any], Any], arguments: Sequence[Any]) -> Callable[[], Any]:
    """Call it with one after the other; the last result."""
    return lambda: [call(argument) for argument in arguments][-1]


def _poll(ledger: SqlLedger, job_id: str) -> Sequence[Callable[[], Any]]:
    """As a client that asks how its job stands."""
    return partial(ledger.get, job_id), partial(ledger.estimates, [job_id])
