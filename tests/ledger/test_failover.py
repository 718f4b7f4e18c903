"""Servers that lose their place, in small: what a single PostgreSQL can show of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from jobs.db.dsn import parse_dsn, secrets_of
from jobs.job import JobState
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger
from scripts.postgres import FAST, LocalPostgres
from tests.stages.databases import PostgresServer
from tests.stages.ledger_kit import claim_one, final_beat, picture, wish
from tests.stages.lost_answers import losing_answers


@pytest.fixture
def server(postgres: PostgresServer) -> Iterator[LocalPostgres]:
    """One whose settings may change. (With `postgres`, so that a missing server is said once.)"""
    with LocalPostgres(FAST) as server:
        yield server


def test_connections_to_a_server_that_takes_no_writes_are_dropped(server: LocalPostgres) -> None:
    """As of a leader that has become a standby. What one session is told stays with it."""
    SqlLedger(server.url()).close()
    server.execute("alter role postgres set default_transaction_read_only = on")
    ledger = SqlLedger(server.url())
    with pytest.raises(LedgerUnavailable, match="read-only"):
        ledger.submit(wish())
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute("alter role postgres reset default_transaction_read_only")
    assert ledger.submit(wish()).job, "by a new connection"
    ledger.close()


@pytest.mark.parametrize(
    ("dsn", "hosts", "ports"),
    [
        ("postgresql://u:p@a:1,b:2/db", "a,b", "1,2"),
        ("postgresql://u:p%40,@a,b/db", "a,b", ","),
        ("postgresql://u:p@[::1]:5,[::2]:6/db", "::1,::2", "5,6"),
    ],
)
def test_a_url_of_several_servers_is_read_as_libpq_writes_it(
    dsn: str, hosts: str, ports: str
) -> None:
    url = parse_dsn(f"{dsn}?target_session_attrs=primary")
    assert (url.username, url.database) == ("u", "db")
    assert url.query == {"host": hosts, "port": ports, "target_session_attrs": "primary"}
    assert str(url.password) in secrets_of(dsn)


@pytest.mark.parametrize("dsn", ["postgresql://u:p@a:x,b/db", "postgresql://u:p@a,b/db?nosuch=p"])
def test_a_url_that_cannot_be_read_is_not_repeated(dsn: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        parse_dsn(dsn)
    assert secrets_of(dsn) >= {dsn}


def test_an_order_whose_commit_was_not_answered_is_found_by_its_retry(
    server: LocalPostgres, tmp_path: Path
) -> None:
    """The server dies, or its network does, between a COMMIT and its answer."""
    original = Path(str(parse_dsn(server.url()).query["host"]))
    with losing_answers(original, tmp_path) as between:
        ledger = SqlLedger(f"postgresql://postgres@/postgres?host={tmp_path}")
        between.arm()
        order = wish(idempotency_key="one")
        with pytest.raises(LedgerUnavailable):
            ledger.submit(order)
        assert between.lost.is_set()
        again = ledger.submit(order)
        assert again.reattached
        assert ledger.job_ids(order.tenant, 10) == [again.job.id], "one order, charged once"
        assert again.usage.used == order.n

        job = claim_one(ledger)
        ledger.renew([final_beat(job)], 60.0)
        between.arm()
        with pytest.raises(LedgerUnavailable):
            ledger.finish_render(job.id, job.fence, 0, picture())
        done = ledger.get(job.id)
        assert done is not None
        assert (done.state, done.renders[0].blob) == (JobState.SUCCEEDED, picture().blob)
        ledger.close()
