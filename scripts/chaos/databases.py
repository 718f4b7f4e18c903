"""The ledger's databases for a chaos run, each with the faults that it can have."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.postgres import LocalPostgres
from scripts.servers.patroni import PatroniCluster


@dataclass(slots=True)
class Volume:
    """A small file system of its own, in memory: it can be full. What it lacks against a disk is
    fsync, and nothing here cuts the power."""

    path: Path

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not one byte of room."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        try:
            yield
        finally:
            ballast.unlink()


@dataclass(slots=True)
class Database:
    """url: of the ledger. volume: where its files are; None where nobody may mount one.
    restart: kill the server, call what it is given, start it or have another one; None without one.
    revive: make sure that it runs."""

    url: str
    volume: Volume | None = None
    restart: Callable[[Callable[[], None]], None] | None = None
    revive: Callable[[], None] = lambda: None


@contextmanager
def mounted(path: Path, size: str) -> Iterator[Volume | None]:
    """A small volume at `path`; None, and a plain directory, where we may not mount."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    done = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield Volume(path) if done else None
    finally:
        if done:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def sqlite(folder: Path) -> Iterator[Database]:
    """A file on a volume of its own."""
    with mounted(folder / "ledger", "64m") as volume:
        yield Database(f"sqlite:///{folder}/ledger/ledger.db", volume)


@contextmanager
def postgresql(folder: Path) -> Iterator[Database]:
    """A server of our own whose data is on a volume of its own."""
    folder.chmod(0o755)  # it runs as nobody where we are root
    with (
        mounted(folder / "ledger", "1g") as volume,
        LocalPostgres({"max_wal_size": "128MB"}, folder / "ledger") as server,
    ):

        def restart(meanwhile: Callable[[], None]) -> None:
            server.stop(random.choice((signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)))
            meanwhile()
            server.start()

        yield Database(server.url(), volume, restart, server.start)


@contextmanager
def patroni(folder: Path) -> Iterator[Database]:
    """Two servers: whichever leads is killed, the other one takes over, and it comes back as the
    standby."""
    folder.chmod(0o755)
    with PatroniCluster(folder) as cluster:

        def restart(meanwhile: Callable[[], None]) -> None:
            killed = cluster.kill_leader()
            meanwhile()
            cluster.await_leader()
            cluster.start(killed)
            cluster.await_standby()  # nothing may be lost with the next leader, either

        yield Database(cluster.url(), restart=restart)


DATABASES: Mapping[str, Callable[[Path], AbstractContextManager[Database]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "patroni": patroni,
}
USUAL = ("sqlite", "postgresql")
"""Those that need no packages of the system."""
