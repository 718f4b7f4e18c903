"""Fixtures of the contract suites: every implementation behind a protocol runs the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest

from jobs.sql.sql_ledger import SqlLedger
from tests.contract.databases import PostgresServer
from tests.contract.http_stage import Stage
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


@pytest.fixture
def client(shared: Stage) -> Iterator[openai.OpenAI]:
    """The official SDK at a module's own `shared` stage; it tries once."""
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-local", max_retries=0) as made:
        yield made


@pytest.fixture
def http(shared: Stage) -> Iterator[httpx.Client]:
    """Plain HTTP there, with the tenant's key."""
    with httpx.Client(base_url=shared.url, headers=shared.headers, timeout=60) as made:
        yield made
