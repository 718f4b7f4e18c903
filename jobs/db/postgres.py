"""All that is particular to PostgreSQL: how connections are opened, its clock, its wake-ups.

Writers run side by side at READ COMMITTED. What keeps them from each other's rows is one rule: a
transaction that moves a job first locks its row in `jobs`, and several in the order of their ids.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from jobs.db.dsn import servers_of
from jobs.db.wakeups import Wakeups
from jobs.ledger_errors import LedgerUnavailable

_SCHEMA_LOCK = 0x6D656C74  # any number that no other lock has
_WRITE = "begin isolation level read committed"
_READ = "begin isolation level repeatable read read only"
_NOW = "select cast(extract(epoch from clock_timestamp()) as double precision)"
# A client that was stopped in the middle of a transaction must not hold up all others for long.
_OPTIONS = {
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    # Nor may one whose network is cut, nor one after the other all that wait behind it: the server
    # asks every second whether the other end is there, while a statement waits, too.
    "tcp_keepalives_idle": "1",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "3s",
    "client_connection_check_interval": "1s",
    "jit": "off",  # it takes longer to compile these queries than to run them
    # A plan that was made while a table was small is kept when it is not; every query has an index,
    # and a bitmap of all that is queued, to find eight of them, is no better than the whole table.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
}
# A server whose machine is gone says nothing: what waits for it is told within ten seconds.
_CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_OF_SEVERAL = {
    "target_session_attrs": "read-write",
    "connect_timeout": 2,
    "tcp_user_timeout": 4_000,
}
"""Of a URL with several servers: whichever of them takes writes, and soon."""
_POOL = {"pool_size": 2, "max_overflow": 2, "pool_timeout": 5.0}
_READ_ONLY = "25006"


class FailoverDialect(PGDialect_psycopg):
    """What SQLAlchemy has to know of a server that may lose its place to another one."""

    supports_statement_cache = True

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """A server that takes no writes has lost its place: the pool looks for the other one."""
        if getattr(e, "sqlstate", None) == _READ_ONLY:
            return True
        return bool(super().is_disconnect(e, connection, cursor))  # type: ignore[no-untyped-call]


registry.register("postgresql.failover", __name__, FailoverDialect.__name__)


class PostgresDatabase:
    """See SqlDatabase. At most four connections an engine, and two for LISTEN and NOTIFY."""

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+failover")
        _check_options(self._url)
        self.durable = self._engine(_WRITE)
        self.relaxed = self._engine(_WRITE, synchronous_commit="off")
        self.reader = self._engine(_READ)
        self._wakeups = Wakeups(self._connect)

    def now(self, connection: Connection) -> float:
        """See SqlDatabase: the server's clock when the transaction began, which it told us then."""
        return float(connection.info["now"])

    def lock_schema(self, connection: Connection) -> None:
        """See SqlDatabase. Making tables may take its time."""
        connection.exec_driver_sql("set local statement_timeout = 0")
        connection.exec_driver_sql("set local lock_timeout = 0")
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _SCHEMA_LOCK})

    def wrote(self) -> None:
        """See SqlDatabase."""
        self._wakeups.wrote()

    def version(self) -> int:
        """See SqlDatabase; others' writes move it some milliseconds after their commit."""
        return self._wakeups.version()

    def changed(self, seen: int, seconds: float) -> int:
        """See SqlDatabase."""
        return self._wakeups.changed(seen, seconds)

    def interrupt(self) -> None:
        """See SqlDatabase."""
        self._wakeups.interrupt()

    def scrub(self) -> None:
        """See SqlDatabase: VACUUM, after which the rows are gone and their place is written anew.
        The write-ahead log and backups keep them for as long as the server is told to."""
        try:
            with self._connect() as connection:
                connection.execute("set statement_timeout = 0")
                connection.execute("vacuum")
        except psycopg.Error as error:
            raise LedgerUnavailable(str(error)) from error

    def apart(self) -> psycopg.Connection[Any]:
        """A connection that the caller closes, outside of the pools, whose statements and
        transactions may take their time."""
        connection = self._connect()
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(f"set {name} = 0".encode())
        return connection

    def close(self) -> None:
        """See SqlDatabase."""
        self._wakeups.close()
        for engine in (self.durable, self.relaxed, self.reader):
            engine.dispose()

    def _engine(self, begin: str, **options: str) -> Engine:
        """Its connections leave the pool in a transaction; SQLAlchemy ends it."""
        engine = create_engine(
            self._url,
            connect_args={**self._connect_arguments(options), "autocommit": True},
            **_POOL,
        )
        query = f"{begin}; {_NOW}".encode()

        @event.listens_for(engine, "checkout")
        def _begin(
            connection: psycopg.Connection[Any], record: ConnectionPoolEntry, _proxy: object
        ) -> None:
            """One round trip begins the transaction, reads the clock, and finds out whether a
            connection has outlived its server: then the pool opens another."""
            try:
                cursor = connection.execute(query, prepare=False)
            except psycopg.OperationalError as error:
                if "now" not in record.info:  # a new one
                    raise
                raise InvalidatePoolError from error
            cursor.nextset()
            (record.info["now"],) = cursor.fetchall()[0]

        return engine

    def _connect_arguments(self, options: dict[str, str]) -> dict[str, Any]:
        several = _OF_SEVERAL if servers_of(self._url) > 1 else {}
        ours = {"application_name": "meltproof", **_CONNECT, **several}
        theirs = self._url.query
        settings = " ".join(f"-c {name}={value}" for name, value in (_OPTIONS | options).items())
        given = theirs.get("options", "")
        return {
            **{name: value for name, value in ours.items() if name not in theirs},
            "options": f"{settings} {given}".strip(),
        }

    def _connect(self) -> psycopg.Connection[Any]:
        """Outside of the pools; every statement is a transaction."""
        arguments, named = self.reader.dialect.create_connect_args(self._url)
        settings = {**named, **self._connect_arguments({}), "autocommit": True}
        return psycopg.connect(*arguments, **settings)


def _check_options(url: URL) -> None:
    """ValueError for a parameter that libpq does not know; its value is not repeated."""
    try:
        make_conninfo("", **dict.fromkeys(url.query, ""))
    except psycopg.ProgrammingError as error:
        raise ValueError(f"ledger URL: {error}") from None
