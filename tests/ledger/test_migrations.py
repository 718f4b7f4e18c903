"""Yesterday's databases: upgraded once, whoever starts first; tomorrow's are left alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from jobs.db.database import open_database
from jobs.db.migrations import READABLE_FROM, SCHEMA_VERSION, SchemaTooNew
from jobs.db.rows import request_to_json
from jobs.job import JobState
from jobs.sql.sql_ledger import SqlLedger
from scripts.postgres import side_door
from tests.stages.databases import PostgresServer
from tests.stages.ledger_kit import LEASE_SECONDS, beat, claim_one, final_beat, picture, wish

FIRST = (Path(__file__).parent / "schema_1.sql").read_text()
"""Version 1 as it was released; it never changes."""
WORDS = {
    "sqlite": {"serial": "INTEGER NOT NULL PRIMARY KEY", "double": "DOUBLE", "bytes": "BLOB",
               "without_rowid": " WITHOUT ROWID"},
    "postgresql": {"serial": "BIGSERIAL PRIMARY KEY", "double": "DOUBLE PRECISION",
                   "bytes": "BYTEA", "without_rowid": ""},
}  # fmt: skip


@pytest.fixture(params=["postgresql", "sqlite"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without anything in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db?timeout=60"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database(empty=True) as url:
            yield url


def make_first(url: str) -> None:
    """A ledger of version 1 with one job in it."""
    database = open_database(url)
    words = WORDS[database.durable.dialect.name] | {"request": request_to_json(wish())}
    script = FIRST
    for name, word in words.items():
        script = script.replace(f"{{{name}}}", word)
    with database.durable.begin() as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.execute(text(statement.replace(":", r"\:")))
    database.close()


def shape(url: str) -> dict[str, object]:
    """Tables with their columns, and indexes with theirs, for comparison."""
    database = open_database(url)
    found: dict[str, object] = {
        table: (
            sorted(
                (column["name"], column["type"]._type_affinity.__name__, column["nullable"])
                for column in looked.get_columns(table)
            ),
            sorted(
                (str(index["name"]), tuple(index["column_names"]), index["unique"])
                for index in looked.get_indexes(table)
            ),
        )
        for looked in [inspect(database.durable)]
        for table in looked.get_table_names()
    }
    database.close()
    return found


def test_an_old_database_becomes_what_a_new_one_is(empty: str) -> None:
    make_first(empty)
    ledger = SqlLedger(empty)
    assert ledger.depth("chat").queued_jobs == 1
    (old,) = ledger.claim("chat", "w", 9, 60.0)
    assert old.request.prompt == "a red fox"
    ledger.submit(wish())
    ledger.close()
    upgraded = shape(empty)
    drop_everything(empty)
    SqlLedger(empty).close()
    assert upgraded == shape(empty)


def drop_everything(url: str) -> None:
    database = open_database(url)
    with database.durable.begin() as connection:
        for table in inspect(connection).get_table_names():
            connection.exec_driver_sql(f"drop table {table}")
    database.close()


@pytest.mark.parametrize("made", [False, True], ids=["a new one", "an old one"])
def test_a_database_is_opened_by_many_at_once(empty: str, made: bool) -> None:
    """The first start of a cluster: everybody finds no tables, or old ones."""
    if made:
        make_first(empty)
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


def test_a_newer_database_that_would_be_misread_is_refused_by_name(empty: str) -> None:
    SqlLedger(empty).close()
    run(empty, f"insert into meltproof_schema values ({SCHEMA_VERSION + 1})")
    with pytest.raises(SchemaTooNew, match=rf"needs version {SCHEMA_VERSION + 1}, this"):
        SqlLedger(empty)


def test_what_a_newer_version_only_added_is_no_reason_to_stay_away(empty: str) -> None:
    """An old replica that restarts while a cluster is updated, or after the update was undone."""
    SqlLedger(empty).close()
    run(
        empty,
        "create index jobs_by_their_prompt on jobs (tenant, request)",
        "alter table jobs add column mood text",
        f"insert into meltproof_migrations values ({SCHEMA_VERSION + 1})",
    )
    with closing(SqlLedger(empty)) as ledger:
        ledger.submit(wish())
        assert claim_one(ledger).request == wish()


def test_the_previous_release_may_start_beside_this_one(empty: str) -> None:
    """It looks at nothing but the newest row of meltproof_schema, and knows version 9."""
    SqlLedger(empty).close()
    database = open_database(empty)
    with database.reader.begin() as connection:
        newest = connection.execute(text("select max(version) from meltproof_schema")).scalar()
    database.close()
    assert newest == READABLE_FROM == 9


@pytest.mark.parametrize("stored", ["running", "finishing"])
def test_a_job_that_an_older_ledger_held_goes_on(empty: str, stored: str) -> None:
    """It told in the job's row how far the images are, too."""
    with closing(SqlLedger(empty)) as ledger:
        ledger.submit(wish())
        job = claim_one(ledger)
        ledger.renew([beat(job, 2) if stored == "running" else final_beat(job)], LEASE_SECONDS)
        engine = side_door(empty)
        with engine.begin() as connection:
            connection.execute(text("update jobs set state = :state"), {"state": stored})
        engine.dispose()
        found = ledger.get(job.id)
        assert found is not None
        assert found.state.value == stored
        done = ledger.finish_render(job.id, job.fence, 0, picture())
        assert done.state is JobState.SUCCEEDED
        assert ledger.get(job.id) == done
