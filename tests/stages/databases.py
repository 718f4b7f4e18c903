"""Fresh databases for tests, cheaply: SQLite files, and copies of one template in one PostgreSQL.

The server is one of our own (scripts/postgres.py), or the one whose DSN is in the environment
variable MELTPROOF_TEST_POSTGRES, 15 or newer, where that user may create databases.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from jobs.db.dsn import parse_dsn
from jobs.sql.sql_ledger import SqlLedger
from scripts.postgres import FAST, LocalPostgres, PostgresMissing

MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 * 2**30
"""Where a server of our own has its files if there is so much room: a database is made and dropped
there in a fraction of the time."""


class PostgresServer:
    """Where tests make their databases. admin: the URL of a database that exists."""

    def __init__(self, admin: str) -> None:
        self._admin = parse_dsn(admin)
        self._template = f"meltproof_template_{uuid.uuid4().hex[:8]}"
        self._execute(f"create database {self._template}")
        SqlLedger(self.url(self._template)).close()

    def url(self, name: str) -> str:
        """What SqlLedger takes."""
        return self._admin.set(database=name).render_as_string(hide_password=False)

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """The URL of a new ledger's database; with `empty` there is nothing in it."""
        name = f"meltproof_test_{uuid.uuid4().hex[:12]}"
        template = "template1" if empty else self._template
        # Pages are copied as files, not through the log, which the next checkpoint would write out.
        self._execute(f"create database {name} template {template} strategy file_copy")
        try:
            yield self.url(name)
        finally:
            self._execute(f"drop database {name} with (force)")

    def close(self) -> None:
        """Leave nothing behind."""
        self._execute(f"drop database {self._template} with (force)")

    def _execute(self, statement: str) -> None:
        plain = self._admin.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement.encode())


def postgres_server() -> Iterator[PostgresServer]:
    """For a session-wide fixture. Without a server tests are skipped by its name, unless
    REQUIRE_ALL=1 asks for all of them."""
    given = os.environ.get("MELTPROOF_TEST_POSTGRES")
    local: LocalPostgres | None = None
    try:
        if given is None:
            local = LocalPostgres(FAST, _in_memory())
    except PostgresMissing as missing:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    try:
        server = PostgresServer(local.url() if local else given or "")
        yield server
        server.close()
    finally:
        if local is not None:
            local.close()


def _in_memory() -> Path | None:
    room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if room else None
