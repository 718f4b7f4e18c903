"""A service whose passes end when the test says so, a Temporal server, and workers of the example
as processes of their own. One of each server serves the whole folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from jobs.job import Job
from jobs.sql.sql_ledger import SqlLedger
from scripts.postgres import die_with_parent
from scripts.servers.temporal import TemporalServer
from tests.page.pipeline import CONFIG, Pace, Pipeline
from tests.stages.tools import programs

KEY = "sk-local"
SETTINGS = {
    **CONFIG,
    "keys": [
        {"key": KEY, "tenant": "local"},
        {"key": "sk-poor", "tenant": "poor", "tier": "poor"},
    ],
    "tiers": {"free": {"images_per_day": 1000}, "poor": {"images_per_day": 1}},
    "temporary_limits": [],
}


@dataclass(frozen=True)
class Service:
    """url: of its gateway. pace: when passes end. ledger: the truth, from the outside."""

    url: str
    pace: Pace
    ledger: SqlLedger
    pipeline: Pipeline

    @contextmanager
    def held(self) -> Iterator[Pace]:
        """No pass ends inside, but those that are stepped."""
        self.pace.hold()
        try:
            yield self.pace
        finally:
            self.pace.go()

    def jobs(self, *prompts: str) -> list[Job]:
        """Every job that was ever submitted with one of these prompts."""
        return [job for job in self.ledger.recent("local", 1000) if job.request.prompt in prompts]

    def charged(self) -> int:
        """Images that count as used of the day's."""
        headers = {"authorization": f"Bearer {KEY}"}
        body = httpx.get(f"{self.url}/v1/limits", headers=headers, timeout=60).json()
        used: int = body["images_per_day"]["used"]
        return used


@dataclass
class Workers:
    """Processes of the example's worker, of a task queue of the test."""

    queue: str
    command: list[str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """One more."""
        self.running.append(subprocess.Popen(self.command, preexec_fn=die_with_parent))

    def kill(self) -> None:
        """SIGKILL for all of them."""
        for process in self.running:
            process.kill()
        for process in self.running:
            process.wait()
        self.running.clear()


@pytest.fixture(scope="package")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    programs("temporal")
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with ExitStack() as stack:
        pipeline = stack.enter_context(closing(Pipeline(folder, SETTINGS)))
        ledger = stack.enter_context(closing(SqlLedger(f"sqlite:///{folder}/ledger.db?timeout=60")))
        yield Service(pipeline.url.rstrip("/"), pipeline.pace, ledger, pipeline)


@pytest.fixture
def workers(
    temporal: TemporalServer, service: Service, request: pytest.FixtureRequest
) -> Iterator[Workers]:
    queue = request.node.name
    where = {"temporal": temporal.address, "meltproof": service.url, "key": KEY, "queue": queue}
    options = [f"--{name}={value}" for name, value in where.items()]
    made = Workers(queue, [sys.executable, "-m", "examples.temporal.worker", *options])
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where pictures are published."""
    return tmp_path / "published"
