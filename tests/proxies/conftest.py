"""A service whose gateways can be killed: two processes of their own over the ledger and the
pictures of a pipeline, whose passes end when the test says so."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from jobs.job import Job
from jobs.sql.sql_ledger import SqlLedger
from serve_app.operate.local_cluster import free_port
from tests.page.pipeline import Pace, Pipeline
from tests.proxies import nginx
from tests.proxies.clients import KEY

UP_SECONDS = 60.0


class Gateway:
    """One process. address: host and port, the same after a new start."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """A new process, which is not up yet."""
        command = [sys.executable, "-m", "tests.proxies.gateway", self._folder, str(self._port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def await_up(self) -> None:
        """Return once it answers."""
        until = time.monotonic() + UP_SECONDS
        while True:
            try:
                httpx.get(f"http://{self.address}/healthz", timeout=UP_SECONDS)
            except httpx.TransportError:
                assert time.monotonic() < until, "the gateway does not come up"
                assert self._process.poll() is None, "the gateway ended"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True)
class Site:
    """pace: when passes end. gateways: those behind nginx. ledger: the truth, from the outside."""

    pace: Pace
    gateways: tuple[Gateway, Gateway]
    ledger: SqlLedger
    _stack: ExitStack = field(default_factory=ExitStack)

    def nginx(self, read_timeout_seconds: int, config: str | None = None) -> str:
        """The URL of an nginx before the gateways, which ends with the site."""
        addresses = [gateway.address for gateway in self.gateways]
        return self._stack.enter_context(nginx.nginx(addresses, read_timeout_seconds, config))

    @contextmanager
    def held(self) -> Iterator[Pace]:
        """No pass ends inside, but those that are stepped."""
        self.pace.hold()
        try:
            yield self.pace
        finally:
            self.pace.go()

    def jobs(self) -> list[Job]:
        """Everything that was ever submitted, newest first."""
        return self.ledger.recent("local", 1000)

    def charged(self) -> int:
        """Images that count as used of the day's."""
        url = f"http://{self.gateways[0].address}/v1/limits"
        used: int = httpx.get(url, headers=KEY, timeout=60).json()["images_per_day"]["used"]
        return used


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx.program()
    folder = tmp_path_factory.mktemp("site")
    with ExitStack() as stack:
        pipeline = stack.enter_context(closing(Pipeline(folder)))
        gateways = (Gateway(folder), Gateway(folder))
        for gateway in gateways:
            stack.callback(gateway.kill)
        ledger = stack.enter_context(closing(SqlLedger(f"sqlite:///{folder}/ledger.db?timeout=60")))
        for gateway in gateways:
            gateway.await_up()
        yield Site(pipeline.pace, gateways, ledger, stack)
