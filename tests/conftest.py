"""What several suites share: one PostgreSQL for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.contract.databases import PostgresServer, postgres_server

settings.register_profile("suite", deadline=None)  # a busy machine fails no test
settings.load_profile("suite")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Started once, when the first test asks for it."""
    yield from postgres_server()
