"""What SqlLedger needs of a database, whichever it is, and which one a URL means."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection, Engine

from jobs.db.dsn import parse_dsn
from jobs.db.postgres import PostgresDatabase
from jobs.db.sqlite import SqliteDatabase


class SqlDatabase(Protocol):
    """Three engines for one database."""

    durable: Engine
    """A commit survives a power cut."""
    relaxed: Engine
    """A commit survives the death of this process only."""
    reader: Engine
    """Snapshots that never wait for a writer."""

    def now(self, connection: Connection) -> float:
        """Seconds since the epoch on the database's clock."""

    def lock_schema(self, connection: Connection) -> None:
        """One transaction at a time past this point, until it ends."""

    def wrote(self) -> None:
        """A transaction of ours was committed: every process's `version` moves."""

    def version(self) -> int:
        """Changes with every committed write of any process; it only grows."""

    def changed(self, seen: int, seconds: float) -> int:
        """The version, once it is not `seen`, or later on: after so long at most, or for no reason.
        Blocks; one thread at a time."""

    def interrupt(self) -> None:
        """`changed` returns at once."""

    def scrub(self) -> None:
        """Make room of what was deleted, so that it is overwritten. Raises LedgerUnavailable."""

    def close(self) -> None:
        """Close every connection and end every thread."""


def open_database(url: str) -> SqlDatabase:
    """ValueError for a URL that no ledger can be at; OSError for a file that cannot be made."""
    try:
        parsed = parse_dsn(url)
    except ValueError as error:
        raise ValueError(f"ledger URL: {error}") from None
    match parsed.get_backend_name():
        case "sqlite":
            return SqliteDatabase(parsed)
        case "postgresql":
            return PostgresDatabase(parsed)
        case other:
            raise ValueError(f"ledger URL: {other} is not supported, sqlite and postgresql are")


def check_place(url: str, nodes: int) -> None:
    """ValueError: several nodes would each have a file of their own."""
    if nodes > 1 and url.startswith("sqlite"):
        raise ValueError(
            f"SQLite is a file on one machine, and this cluster has {nodes} nodes: use postgresql://"
        )
