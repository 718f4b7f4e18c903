"""What only PostgreSQL can do to a ledger: go away, come back, and let writers run side by side."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobs.client.async_ledger import AsyncLedger
from jobs.db.compiled import send
from jobs.db.database import open_database
from jobs.job import Job, JobState, RenderState
from jobs.lease import Renewal
from jobs.ledger import Submission
from jobs.ledger_errors import LeaseLost, LedgerUnavailable, QuotaExceeded
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from scripts.postgres import FAST, LocalPostgres
from tests.stages.databases import PostgresServer
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    PATIENCE_SECONDS,
    Clock,
    beat,
    claim_one,
    final_beat,
    moved_on,
    picture,
    wish,
)


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.database() as url:
        yield url


@pytest.fixture
def own_server(postgres: PostgresServer) -> Iterator[LocalPostgres]:
    """One that may be stopped. (With `postgres`, so that a missing server is said once.)"""
    with LocalPostgres(FAST) as server:
        yield server


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["restart", "crash"])
def test_a_ledger_recovers_by_itself(own_server: LocalPostgres, how: signal.Signals) -> None:
    ledger, other = SqlLedger(own_server.url()), SqlLedger(own_server.url())
    accepted = ledger.submit(wish()).job
    held = claim_one(ledger)
    seen = ledger.version()
    own_server.stop(how)
    for call in (
        lambda: ledger.submit(wish()),
        lambda: ledger.get(accepted.id),
        lambda: ledger.renew([beat(held, 1)], LEASE_SECONDS),
        lambda: SqlLedger(own_server.url()),
    ):
        with pytest.raises(LedgerUnavailable):
            call()
    own_server.start()
    assert ledger.renew([beat(held, 1)], LEASE_SECONDS)[0].held
    assert ledger.finish_render(held.id, held.fence, 0, picture()).state is JobState.SUCCEEDED
    seen = ledger.version()
    other.submit(wish())
    moved_on(ledger, seen)
    ledger.close()
    other.close()


def test_the_reason_holds_no_password(tmp_path: object) -> None:
    with pytest.raises(LedgerUnavailable) as refused:
        SqlLedger(f"postgresql://ada:secret@/ledger?host={tmp_path}")
    assert str(tmp_path) in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_images_of_one_job_may_end_at_the_same_time(url: str) -> None:
    """Each of two transactions sees the other image unsettled; together they settle the job."""
    ledgers = [SqlLedger(url) for _ in range(4)]
    for _ in range(10):
        job_id = ledgers[0].submit(wish(n=4)).job.id
        job = claim_one(ledgers[0])
        ledgers[0].renew([final_beat(job, 0, 1, 2, 3)], LEASE_SECONDS)
        gate = threading.Barrier(4)

        def end(index: int) -> None:
            gate.wait()  # noqa: B023
            ledgers[index].finish_render(job.id, job.fence, index, picture())  # noqa: B023

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(end, range(4)))
        done = ledgers[0].get(job_id)
        assert done is not None
        assert done.state is JobState.SUCCEEDED
    for ledger in ledgers:
        ledger.close()


def test_who_ends_an_image_twice_at_the_same_time_ends_it_once(url: str) -> None:
    ledgers = [SqlLedger(url) for _ in range(2)]
    ledgers[0].submit(wish())
    job = claim_one(ledgers[0])
    ledgers[0].renew([final_beat(job)], LEASE_SECONDS)

    def end(ledger: SqlLedger) -> bool:
        try:
            ledger.finish_render(job.id, job.fence, 0, picture())
        except LeaseLost:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(end, ledgers)) == [False, True]
    for ledger in ledgers:
        ledger.close()


def test_a_heartbeat_undoes_nothing_that_it_waited_for(url: str) -> None:
    """It waits for the job's row, and has read the images before that."""
    settling, beating = SqlLedger(url), SqlLedger(url)
    settling.submit(wish(n=2))
    job = claim_one(settling)
    beats = [replace(beat(job, 2), renders=(*beat(job, 2).renders, *beat(job, 3, index=1).renders))]
    with ThreadPoolExecutor(1) as pool:

        def while_it_waits() -> Future[list[Renewal]]:
            renewing = pool.submit(beating.renew, beats, LEASE_SECONDS)
            with psycopg.connect(url) as beside:
                while not beside.execute("select 1 from pg_locks where not granted").fetchone():
                    assert not renewing.done()
            return renewing

        finish: Callable[[], Any] = partial(settling.finish_render, job.id, job.fence, 0, picture())
        _, renewing = settling.together([finish, while_it_waits])
        assert [renewal.held for renewal in renewing.result()] == [True]
    stored = settling.get(job.id)
    assert stored is not None
    first, second = stored.renders
    assert (first.state, first.blob) == (RenderState.SUCCEEDED, "images/x.png")
    assert (second.state, second.pass_no) == (RenderState.RENDERING, 3)
    for ledger in (settling, beating):
        ledger.close()


def test_a_retry_does_not_rejoin_what_was_cancelled_while_it_waited(url: str) -> None:
    """It waits for the job's row, and has found the job before that."""
    cancelling, retrying = SqlLedger(url), SqlLedger(url)
    job = cancelling.submit(wish(body_hash="fox")).job
    with ThreadPoolExecutor(1) as pool:

        def while_it_waits() -> Future[Submission]:
            retry = pool.submit(retrying.submit, wish(body_hash="fox", retry_count=1))
            with psycopg.connect(url) as beside:
                while not beside.execute("select 1 from pg_locks where not granted").fetchone():
                    assert not retry.done()
            return retry

        cancel: Callable[[], Any] = partial(cancelling.cancel, job.id)
        cancelled, retry = cancelling.together([cancel, while_it_waits])
        assert cancelled.state is JobState.CANCELLED
        new = retry.result()
    assert (new.reattached, new.job.state) == (False, JobState.QUEUED)
    for ledger in (cancelling, retrying):
        ledger.close()


def test_claims_at_the_same_time_keep_to_what_a_tenant_may_draw_at_once(url: str) -> None:
    """The second one waits for the first, and counts what is under way after that."""
    tiers = {"free": Tier(concurrent_renders=1)}
    first, second = (SqlLedger(url, tiers=tiers) for _ in range(2))
    first.submit(wish())
    with ThreadPoolExecutor(1) as pool:

        def while_it_waits() -> Future[list[Job]]:
            second.submit(wish(seed=8))
            claiming = pool.submit(second.claim, "chat", "w2", 1, LEASE_SECONDS)
            with psycopg.connect(url) as beside:
                while not beside.execute("select 1 from pg_locks where not granted").fetchone():
                    assert not claiming.done()
            return claiming

        claim: Callable[[], Any] = partial(claim_one, first)
        held, claiming = first.together([claim, while_it_waits])
        assert held.state is JobState.LEASED
        assert claiming.result() == []
    for ledger in (first, second):
        ledger.close()


def test_of_several_statements_the_first_that_fails_says_why(url: str) -> None:
    """Not one of those behind it, which PostgreSQL did not run."""
    database = open_database(url)
    asked = [(text("select 12 / :n"), {"n": n}) for n in (1, 2, 0, 3, 4)]
    with pytest.raises(DBAPIError) as failed, database.durable.begin() as connection:
        send(connection, *asked)
    assert isinstance(failed.value.orig, psycopg.errors.DivisionByZero)
    with database.durable.begin() as connection:
        assert [answer.rows for answer in send(connection, *asked[:2])] == [[(12,)], [(6,)]]
    database.close()


def test_whoever_loses_a_deadlock_begins_again(url: str) -> None:
    """Two batches that need the same tenants' rows in opposite order."""
    ledgers = [SqlLedger(url) for _ in range(2)]
    for tenant in ("ada", "bob"):
        ledgers[0].submit(wish(tenant=tenant))
    gate = threading.Barrier(2, timeout=PATIENCE_SECONDS)
    met: list[int] = []

    def batch(number: int) -> int:
        first, second = ("ada", "bob") if number == 0 else ("bob", "ada")
        ledger = ledgers[number]

        def then_wait() -> None:
            ledger.submit(wish(tenant=first))
            met.append(number)
            if len(met) <= 2:
                gate.wait()

        results = ledger.together([then_wait, lambda: ledger.submit(wish(tenant=second))])
        return sum(isinstance(result, Exception) for result in results)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(batch, range(2))) == [0, 0]
    assert len(met) == 3, "one of them has begun again"
    assert len(ledgers[0].recent("ada", 9)) == 3
    for ledger in ledgers:
        ledger.close()


def test_a_client_that_stops_in_a_transaction_is_cut_off(url: str) -> None:
    """And its connections are few: pools are bounded and say so to the server."""
    database = open_database(url)
    with database.durable.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, psycopg.Connection)
        for name in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
            row = raw.execute(f"show {name}".encode()).fetchone()
            assert row is not None
            assert row[0] not in ("0", None), name
    for engine in (database.durable, database.relaxed, database.reader):
        assert engine.pool.size() <= 4  # type: ignore[attr-defined]
    database.close()


def test_a_lost_wake_up_is_made_up_for(url: str) -> None:
    """Somebody commits and dies before it has told anybody."""
    ledger, database = SqlLedger(url), open_database(url)
    with closing(ledger), closing(database):
        seen = ledger.version()
        with database.durable.begin() as connection:
            connection.exec_driver_sql("insert into meltproof_schema values (0)")
        moved_on(ledger, seen)


async def test_gateways_with_the_same_tenants_do_not_lock_each_other_out(url: str) -> None:
    ledgers = [AsyncLedger(SqlLedger(url)) for _ in range(2)]
    await ledgers[0].submit(wish())  # the first of a lane also makes the lane
    tenants = [f"t{number}" for number in range(8)] * 12
    orders = [tenants, tenants[::-1]]
    wishes = [
        ledger.submit(wish(tenant=tenant))
        for ledger, order in zip(ledgers, orders, strict=True)
        for tenant in order
    ]
    try:
        submitted = await asyncio.gather(*wishes)
    finally:
        for ledger in ledgers:
            ledger.close()
    assert len({submission.job.id for submission in submitted}) == 2 * len(tenants)
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select deadlocks from pg_stat_database where datname = current_database()"
        ).fetchone()
    assert found == (0,)


def test_one_statement_admits_as_its_parts_do(postgres: PostgresServer) -> None:
    """A tier with a limit of queued jobs takes the parts, one that has none the whole."""
    clock = Clock()
    told: list[list[object]] = []
    for limit in (None, 1000):
        tiers = {"free": Tier(images_per_day=7, queued_jobs=limit)}
        with postgres.database() as url, closing(SqlLedger(url, tiers=tiers, clock=clock)) as it:
            said: list[object] = []
            for tenant, n in [("ada", 2), ("bob", 1), ("ada", 4), ("ada", 3), ("ada", 1)]:
                try:
                    usage = it.submit(wish(tenant=tenant, n=n, cost_seconds=n / 3)).usage
                    said.append(usage.used)
                except QuotaExceeded as refused:
                    said.append(refused.usage.used)
            with psycopg.connect(url) as door:
                said += door.execute("select tenant, vft from jobs order by seq").fetchall()
            told.append(said)
    assert told[0] == told[1]
    assert told[0][:5] == [2, 1, 6, 6, 7]
