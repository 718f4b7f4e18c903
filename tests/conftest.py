"""What several suites share: one PostgreSQL for all of them, and ledgers on each database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from jobs.sql.sql_ledger import SqlLedger
from scripts.servers.seaweedfs import SeaweedFS
from tests.stages.databases import PostgresServer, postgres_server
from tests.stages.ledger_kit import Clock, Database, sqlite
from tests.stages.tools import programs

# Tests talk to this machine alone; clients of other makers would ask a developer's proxy for it.
for _name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[_name]
# Ray gives its workers niceness 15: beside busy tests on two cores, a replica would take minutes to
# start.
os.environ.update(RAY_worker_niceness="0")

# A busy machine fails no test.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", parent=settings.get_profile("suite"), max_examples=1000)
settings.load_profile("suite")
_patience = httpx._config.DEFAULT_TIMEOUT_CONFIG  # one object, which every call has by default
_patience.connect = _patience.read = _patience.write = _patience.pool = 60.0


ONE_STAGE = ("cluster", "page", "proxies", "temporal")
"""Folders whose tests share what is expensive to start: Ray, a browser, gateways behind nginx, a
server of Temporal."""
LONGEST = (
    "cluster",
    "tests/fuzz/test_fuzz.py",
    "tests/commands/test_image.py",
    "tests/nodes/test_node_death.py",
    "tests/nodes/test_nodes.py",
)
"""Groups of minutes, which begin. Ray gives itself half a minute to start, so that no two clusters
start at the same time: the fuzzed service has none, and an image is built first. Tests of nodes
have a cluster each, and run beside those that share one."""


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Groups that take long begin: none of them may be left when the rest is done."""
    long = {*ONE_STAGE, *(_group(it.nodeid) for it in items if it.get_closest_marker("slow"))}
    ranks = {group: rank for rank, group in enumerate(LONGEST)}

    def rank(item: pytest.Function) -> tuple[int, bool]:
        group = _group(item.nodeid)
        return ranks.get(group, len(ranks)), group not in long

    items.sort(key=rank)


class ByGroup(LoadFileScheduling):
    """Hands groups to workers, where theirs run in order."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup:
    return ByGroup(config, log)


def _group(nodeid: str) -> str:
    """A folder with one stage for all of its tests, or a file."""
    file = nodeid.partition("::")[0]
    folder = Path(file).parent.name
    return folder if folder in ONE_STAGE else file


def pytest_itemcollected(item: pytest.Function) -> None:
    """Mark what starts PostgreSQL: `make test-fast` does without."""
    given = getattr(item, "callspec", None)
    params = given.params.values() if given else ()
    if "postgres" in item.fixturenames or any(str(value) == "postgresql" for value in params):
        item.add_marker("postgres")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Started once, when the first test asks for it."""
    yield from postgres_server()


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[SeaweedFS]:
    """A real S3 server, started once, when the first test asks for it."""
    programs("weed")
    with SeaweedFS() as server:
        yield server


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
