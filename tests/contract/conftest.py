"""Fixtures of the contract suites: every implementation behind a protocol runs the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.sql_ledger import SqlLedger
from tests.contract.ledger_kit import DATABASES, Clock, Database


@pytest.fixture(params=sorted(DATABASES))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    made = DATABASES[request.param](tmp_path)
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
