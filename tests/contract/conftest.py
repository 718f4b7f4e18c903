"""Fixtures of the contract suites: every implementation behind a protocol runs the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobs.sql_ledger import SqlLedger
from tests.contract.databases import PostgresServer
from tests.contract.ledger_kit import Clock, Database, sqlite


@pytest.fixture(params=["postgresql", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A new ledger's database of each kind."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            made = sqlite(tmp_path)
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            made = Database("postgresql", stack.enter_context(server.database()))
        yield made
        for ledger in made.opened:
            ledger.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(database: Database, clock: Clock) -> SqlLedger:
    """A ledger whose clock is the test's."""
    return database.open(clock=clock)
