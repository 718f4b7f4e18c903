"""The indexes that make a million queued jobs bearable: what each database means to do with tens of
thousands of jobs, of which it knows the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from jobs.db import statements as sql
from jobs.db.database import open_database
from jobs.operating import JobOrder
from jobs.sql.operating import page_statement
from tests.stages.ledger_kit import Database

QUEUED, RUNNING, ENDED = 20_000, 50, 10_000
FILL = """insert into jobs (id, lane, tier, tenant, state, vft, cost_seconds, fence, attempts,
        cancel_requested, created_at, finished_at, deadline_at, watched_until, day,
        idempotency_key, body_hash, errors, request, parent)
    with recursive n(i) as (select 1 union all select i + 1 from n where i < :n)
    select :state || i, 'chat', 'free', 'tenant ' || (i % 500), :state, i * 0.25, 4.0, 0, 0, false,
        1000.0 + i, :finished_at, 90000.0 + i, 2000.0 + i, '2025-03-26', :state || i,
        'hash ' || i, '[]', '{}', case when i % 10 = 0 then 'parent ' || (i % 1000) end from n"""
LEASE = """insert into leases (job_id, lane, tier, tenant, images, passes, claimed_at, fence,
        worker, lease_until, lease_seconds, progress, cancel_requested)
    select id, lane, tier, tenant, 1, 16, 1000.0, 1, 'w', 1000.0 + seq, 6.0, 0, false
    from jobs where state = 'rendering'"""
RENDER = """insert into renders (job_id, idx, state, pass_no, attempts, previews, categories)
    select id, 0, 'waiting', 0, 0, '[]', '[]' from jobs"""
FILE = """insert into files (id, tenant, purpose, filename, bytes, width, height, blobs,
        created_at, expires_at)
    with recursive n(i) as (select 1 union all select i + 1 from n where i < :n)
    select 'file-' || i, 'tenant ' || (i % 500), case when i % 2 = 0 then 'vision' else 'input' end,
        'fox.png', 1000, 64, 64, '[]', 1000.0 + i, 2900.0 + i from n"""

QUERIES = {
    "HEADS": "jobs_ready",
    "ANY_QUEUED": "jobs_ready",
    "FIRST_QUEUED": "jobs_ready",
    "SAMPLED": "jobs_sampled",
    "FIRST_ARRIVAL": "jobs_ready",
    "ACTIVE": {"sqlite": "sqlite_autoindex_jobs", "postgresql": "jobs_id_key"},
    "FINISHED": "jobs_finished",
    "MOVED": "jobs_stopped",
    "OVERDUE": "jobs_overdue",
    "UNWATCHED": "jobs_watched",
    "BY_KEY": "jobs_of_key",
    "KEYS": "jobs_of_key",
    "BY_BODY": "jobs_of_body",
    "RECENT": "jobs_of_tenant",
    "LAPSED_LEASES": "leases",
    "HELD": {"sqlite": "sqlite_autoindex_jobs", "postgresql": "jobs_id_key"},
    "QUEUED_PREEMPTORS": "jobs_ready",
    "UNPARK": "jobs_parked",
    "STRAYS": "jobs_parked",
    "UNDER_WAY": "leases_of_tenant",
    "RENDERS_OF": "leases_of_tenant",
    "LAST_ALLOWED": "jobs_waiting",
    "FIRST_WAITING": "jobs_waiting",
    "WAITING": "jobs_waiting",
    "CHILDREN": "jobs_of_parent",
    "ANCESTORS": {"sqlite": "sqlite_autoindex_jobs", "postgresql": "jobs_id_key"},
    "FILE": {"sqlite": "PRIMARY KEY", "postgresql": "files_pkey"},
    "FILES": {"sqlite": "files_shown", "postgresql": "files_of_tenant"},
    "FILES_KEPT": {"sqlite": "files_of_tenant", "postgresql": "files_shown"},
    "FILES_OF_TENANT": "files_of_tenant",
    "STALE_FILES": "files_expiring",
    "AGED": {"sqlite": "USING INTEGER PRIMARY KEY", "postgresql": "jobs_pkey"},
}
VALUES = {
    "lane": "chat", "tier": "free", "tenant": "tenant 7", "key": "queued7", "body_hash": "hash 7",
    "now": 3000.0, "since": 0.0, "vft": 900.0, "seq": 3600, "limit": 8, "id": "queued7",
    "purpose": "vision",
    "after": 100, "but": "batch", "parent": "parent 10", "passed": ["queued9"],
    "pairs": [("tenant 7", "queued7"), ("tenant 8", "none")],
}  # fmt: skip


CHANGED: dict[str, dict[str, Any]] = {
    "OVERDUE": {"now": 95_000.0},
    "UNDER_WAY": {"ids": ["tenant 7", "tenant 8"]},
    "MOVED": {"ids": ["chat", "api"], "since": 2_600.0},
    "CHILDREN": {"tenant": "tenant 10"},
}


def fill(connection: Connection) -> None:
    for state, n, finished_at in (
        ("queued", QUEUED, None), ("rendering", RUNNING, None), ("succeeded", ENDED, 2000.0),
        ("failed", RUNNING, 2500.0),
    ):  # fmt: skip
        values = {"state": state, "n": n, "finished_at": finished_at}
        connection.execute(text(FILL), values)
    connection.execute(text(LEASE))
    connection.execute(text(RENDER))
    connection.execute(text(FILE), {"n": ENDED})


def plan(engine: Engine, statement: Any, changed: Mapping[str, Any]) -> str:
    """What the database says it would do, in one line."""
    words = "explain query plan" if engine.dialect.name == "sqlite" else "explain"

    def explain(_c: object, _k: object, written: str, values: Any, *_: object) -> tuple[str, Any]:
        return f"{words} {written}", values

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", explain, retval=True)
        names = statement.compile(dialect=engine.dialect).params
        rows = connection.execute(
            statement, {n: v for n, v in (VALUES | changed).items() if n in names}
        )
        return " | ".join(str(row[-1]) for row in rows.cursor.fetchall())


@pytest.fixture
def filled(database: Database) -> Iterator[Engine]:
    database.open()
    opened = open_database(database.url)
    with opened.durable.begin() as connection:
        fill(connection)
    with opened.durable.begin() as connection:
        connection.exec_driver_sql("analyze")
    yield opened.durable
    opened.close()


def test_queries_use_their_indexes(filled: Engine, database: Database) -> None:
    for name, index in QUERIES.items():
        steps = plan(filled, getattr(sql, name), CHANGED.get(name, {}))
        wanted = index if isinstance(index, str) else index[database.kind]
        assert wanted in steps, f"{name}: {steps}"
        assert "TEMP B-TREE" not in steps, f"{name} sorts: {steps}"
        assert "Sort" not in steps, f"{name} sorts: {steps}"
        # leases are few and read whole, as are tenants with parked jobs, what a limit bounds, lists
        others = steps.replace("Seq Scan on leases", "")
        for few in ("SCAN line", "SCAN l", "SCAN parked", "SCAN waiting", "SCAN json_each"):
            others = others.replace(few, "")
        assert "Seq Scan" not in others, f"{name} reads a whole table: {steps}"
        assert "SCAN" not in others, f"{name} reads a whole table: {steps}"


def test_arrivals_are_read_from_the_newest_on(filled: Engine, database: Database) -> None:
    """Backwards along the primary key, and no further than the limit."""
    steps = plan(filled, sql.ARRIVED, {})
    assert "TEMP B-TREE" not in steps, steps
    assert "Sort" not in steps, steps
    if database.kind == "postgresql":
        assert "Index Scan Backward using jobs_pkey" in steps, steps
    else:
        assert "USING INDEX" not in steps, steps  # a plain scan of it is by seq


def test_no_filter_is_made_of_all_jobs_to_find_a_few(database: Database) -> None:
    """SQLite would read every job for that, where its statistics are of an idle moment."""
    database.open()
    opened = open_database(database.url)
    with closing(opened):
        with opened.durable.begin() as connection:
            fill(connection)
            connection.exec_driver_sql("delete from leases")
            connection.exec_driver_sql("analyze")
        opened.durable.dispose()  # statistics are read when a connection opens
        for name in QUERIES:
            assert "BLOOM" not in plan(opened.durable, getattr(sql, name), CHANGED.get(name, {})), (
                name
            )


PAGES = {
    JobOrder.NEWEST: {"sqlite": "USING INTEGER PRIMARY KEY", "postgresql": "jobs_pkey"},
    JobOrder.RUNNING: {"sqlite": "SCAN l", "postgresql": "leases"},
    JobOrder.WAITING: {"sqlite": "jobs_overdue", "postgresql": "jobs_overdue"},
    JobOrder.FAILED: {"sqlite": "jobs_failed", "postgresql": "jobs_failed"},
}


@pytest.mark.parametrize("order", JobOrder)
def test_pages_for_operators_go_along_an_index(
    filled: Engine, database: Database, order: JobOrder
) -> None:
    """What is sorted, if anything, are the few jobs of a page's scan."""
    first = 2**62 if order in (JobOrder.NEWEST, JobOrder.FAILED) else -1
    asked = {"key": float(first), "seq": first, "tenant": None, "queue": None, "since": 0.0,
             "scanned": 500, "limit": 21}  # fmt: skip
    steps = plan(filled, page_statement(order, False, None), asked)
    assert PAGES[order][database.kind] in steps, steps
    assert "Seq Scan on jobs" not in steps, steps
    assert "SCAN jobs" not in steps, steps


def test_pages_of_a_tenant_go_along_its_jobs(filled: Engine) -> None:
    asked = {"seq": 2**62, "tenant": "tenant 7", "queue": None, "scanned": 500, "limit": 21}
    steps = plan(filled, page_statement(JobOrder.NEWEST, True, None), asked)
    assert "jobs_of_tenant" in steps, steps
