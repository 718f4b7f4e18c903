"""All that is particular to SQLite: how connections are opened and how a write begins.

WAL, so that readers never wait for a writer. Every write begins IMMEDIATE: two deferred ones that
both want to write would fail instead of waiting.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from jobs.db.file_signal import FileSignal
from jobs.ledger_errors import LedgerUnavailable

_BUSY_SECONDS = 5.0
_SCRUB_TRIES = 100


class SqliteDatabase:
    """See SqlDatabase. durable: an fsync at every commit. One writer at a time."""

    def __init__(self, url: URL) -> None:
        if not url.database or url.database == ":memory:":
            raise ValueError(f"the ledger needs a file, not {url}")
        self._path = Path(url.database)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.durable = _engine(url, synchronous="FULL", begin="BEGIN IMMEDIATE")
        self.relaxed = _engine(url, synchronous="NORMAL", begin="BEGIN IMMEDIATE")
        self.reader = _engine(url, synchronous="NORMAL", begin="BEGIN")
        self._version_connection: sqlite3.Connection | None = None
        self._watching = threading.Lock()
        self._signal = FileSignal(self._path)

    def now(self, connection: Connection) -> float:
        """See SqlDatabase: the machine's clock, since the file is on this machine."""
        return time.time()

    def lock_schema(self, connection: Connection) -> None:
        """See SqlDatabase: BEGIN IMMEDIATE has done it."""

    def wrote(self) -> None:
        """See SqlDatabase: SQLite counts by itself, and tells no other process."""
        self._signal.send()

    def version(self) -> int:
        """PRAGMA data_version on a connection that never writes: it moves with every commit of any
        other connection, ours included. Raises LedgerUnavailable."""
        try:
            with self._watching:
                if self._version_connection is None:
                    self._version_connection = sqlite3.connect(
                        self._path, check_same_thread=False, isolation_level=None,
                        timeout=_BUSY_SECONDS,
                    )  # fmt: skip
                return int(self._version_connection.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise LedgerUnavailable(str(error)) from error

    def changed(self, seen: int, seconds: float) -> int:
        """See SqlDatabase. Raises LedgerUnavailable."""
        self._signal.listen()
        if self.version() == seen:
            self._signal.wait(seconds)
        return self.version()

    def interrupt(self) -> None:
        """See SqlDatabase."""
        self._signal.send()

    def scrub(self) -> None:
        """Overwrite what was deleted: a file without free pages, and an empty log beside it. Copies
        the whole file while writers wait. LedgerUnavailable when some reader is always open."""
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None, timeout=30.0)) as file:
                file.execute("VACUUM")
                for _ in range(_SCRUB_TRIES):
                    busy, _, _ = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    if not busy:
                        return
                    time.sleep(0.1)
        except sqlite3.Error as error:
            raise LedgerUnavailable(str(error)) from error
        raise LedgerUnavailable("the log could not be emptied: there was always a reader")

    def close(self) -> None:
        """Close every connection."""
        for engine in (self.durable, self.relaxed, self.reader):
            engine.dispose()
        self._signal.close()
        with self._watching:
            if self._version_connection is not None:
                self._version_connection.close()
                self._version_connection = None


def _engine(url: URL, *, synchronous: str, begin: str) -> Engine:
    engine = create_engine(
        url,
        connect_args={
            "timeout": float(url.query.get("timeout", _BUSY_SECONDS)),  # type: ignore[arg-type]
            "isolation_level": None,  # we say BEGIN ourselves, below
            "check_same_thread": False,
            "cached_statements": 256,
        },
        pool_size=4,
        max_overflow=28,
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        _enter_wal(connection)
        connection.execute(f"PRAGMA synchronous={synchronous}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _enter_wal(connection: sqlite3.Connection, tries: int = 50) -> None:
    """SQLite does not wait its busy time for the switch to WAL: the first processes to open a new
    file race for it, and the losers must ask again."""
    for left in reversed(range(tries)):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or not left:
                raise
            time.sleep(0.02)
        else:
            return
