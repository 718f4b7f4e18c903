"""A database gets its tables once; one whose tables would be misread is refused by its version."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.db.database import open_database
from jobs.db.schema import SCHEMA_VERSION
from jobs.db.versions import SchemaMismatch
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.databases import PostgresServer
from tests.stages.ledger_kit import claim_one, wish


@pytest.fixture(params=["postgresql", "sqlite"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without anything in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db?timeout=60"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database(empty=True) as url:
            yield url


def test_several_processes_open_a_new_database_at_once(empty: str) -> None:
    ids: list[str] = []

    def start() -> None:
        ledger = SqlLedger(empty)
        ids.append(ledger.submit(wish()).job.id)
        ledger.close()

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 6


def run(url: str, *statements: str) -> None:
    database = open_database(url)
    with database.durable.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    database.close()


def test_tables_that_were_added_since_are_made(empty: str) -> None:
    with closing(SqlLedger(empty)) as ledger:
        ledger.submit(wish())
    run(
        empty,
        "drop table models",
        "alter table renders drop column checkpoint_pass",
        "alter table renders drop column revised_prompt",
        "alter table renders drop column redrawn",
        "update meltproof_migrations set version = 12",
    )
    with closing(SqlLedger(empty)) as ledger:
        assert ledger.models("chat") == []
        assert claim_one(ledger).request == wish()
    database = open_database(empty)
    with database.reader.begin() as connection:
        read = connection.exec_driver_sql
        assert read("select max(version) from meltproof_migrations").scalar() == SCHEMA_VERSION
        assert read("select max(version) from meltproof_schema").scalar() == 12, "goes on beside it"
    database.close()


def test_a_newer_database_that_would_be_misread_is_refused(empty: str) -> None:
    SqlLedger(empty).close()
    newer = SCHEMA_VERSION + 1
    run(
        empty,
        f"insert into meltproof_schema values ({newer})",
        f"insert into meltproof_migrations values ({newer})",
    )
    with pytest.raises(SchemaMismatch, match=rf"version {newer}, .* schema {newer}"):
        SqlLedger(empty)


def test_an_older_database_is_refused(empty: str) -> None:
    SqlLedger(empty).close()
    run(empty, "drop table meltproof_migrations", "update meltproof_schema set version = 9")
    with pytest.raises(SchemaMismatch, match=r"is version 9, .*no release wrote it"):
        SqlLedger(empty)


@pytest.mark.parametrize(
    "changes",
    [
        ["update meltproof_schema set version = 9"],  # as builds before the first release wrote it
        [
            "create index jobs_by_their_prompt on jobs (tenant, request)",
            "alter table jobs add column mood text",
            f"insert into meltproof_migrations values ({SCHEMA_VERSION + 1})",
        ],
    ],
    ids=["the same tables", "a newer version that only added"],
)
def test_a_database_that_others_use_is_shared(empty: str, changes: list[str]) -> None:
    """A replica that restarts while a cluster is updated, or after the update was undone."""
    SqlLedger(empty).close()
    run(empty, *changes)
    with closing(SqlLedger(empty)) as ledger:
        ledger.submit(wish())
        assert claim_one(ledger).request == wish()
