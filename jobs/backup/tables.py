"""The ledger's tables as of one moment, copied out of a database that is written to meanwhile, and
loaded into an empty one.

SQLite: its online backup, of one snapshot; writers do not wait. PostgreSQL: COPY of each table in
one REPEATABLE READ transaction, so that no program of the server's version is needed; the log
between two backups is for base backups and WAL archiving (docs/backup.md).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, Table, create_engine, text

from jobs.backup.manifest import BackupRefused
from jobs.db.dsn import parse_dsn
from jobs.db.postgres import PostgresDatabase
from jobs.db.rows import load
from jobs.db.schema import metadata, readable_from, version
from jobs.db.sqlite import SqliteDatabase
from jobs.files import LEFTOVER
from jobs.ledger_errors import LedgerUnavailable
from jobs.sql.sql_ledger import SqlLedger

FILE = "ledger.db"
_DATA = [table for table in metadata.sorted_tables if table not in (readable_from, version)]
_BLOBS = text("select blob from renders where blob is not null")
_FILES = text(f"select blobs from files where purpose <> '{LEFTOVER}'")
_CLOCK = "select extract(epoch from clock_timestamp())"
_CHUNK_BYTES = 1 << 20
_BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Cut:
    """What was written to a folder."""

    at: float
    files: tuple[str, ...]
    columns: Mapping[str, list[str]]
    keys: list[str]
    """Of all blobs that the tables name: final images and files. Previews and checkpoints are made
    anew."""


def kind_of(dsn: str) -> str:
    """`sqlite` or `postgresql`."""
    return parse_dsn(dsn).get_backend_name()


def dump(dsn: str, folder: Path) -> Cut:
    """Into a new folder. Raises LedgerUnavailable, and BackupRefused for a damaged database."""
    url = parse_dsn(dsn)
    with _outages():
        if kind_of(dsn) == "sqlite":
            return _dump_sqlite(url, folder)
        return _dump_postgres(url, folder)


def load_tables(dsn: str, folder: Path, columns: Mapping[str, list[str]]) -> None:
    """All or nothing, into a ledger that has never been used. Raises BackupRefused for one that
    was, and LedgerUnavailable."""
    url = parse_dsn(dsn)
    with _outages():
        if kind_of(dsn) == "sqlite":
            _load_sqlite(url, folder)
        else:
            _load_postgres(dsn, folder, columns)


def check_exists(dsn: str) -> None:
    """Raises BackupRefused for a file that is not there: opening it would make an empty ledger."""
    url = parse_dsn(dsn)
    if kind_of(dsn) == "sqlite" and not Path(str(url.database)).exists():
        raise BackupRefused(f"{url.database}: there is no such ledger")


def check_unused(dsn: str) -> None:
    """Raises BackupRefused for a ledger that has anything in it."""
    url = parse_dsn(dsn)
    if kind_of(dsn) == "sqlite":
        if Path(str(url.database)).exists():
            raise BackupRefused(f"{url.database} exists: move it away first, with -wal and -shm")
        return
    SqlLedger(dsn).close()  # makes the tables
    with _outages(), _apart(url) as connection:
        for table in ("jobs", "tenants", "api_keys", "files", "verdicts", "admin_calls"):
            if connection.execute(f"select 1 from {table} limit 1".encode()).fetchone():
                raise BackupRefused(
                    f"{url.database}: its table {table} is not empty: name a new database"
                )


def images_now(dsn: str) -> set[str]:
    """The keys of final images that the ledger itself names now. Their bytes were there before
    their rows; a file's come after its row."""
    url = parse_dsn(dsn)
    if kind_of(dsn) == "sqlite":
        with _outages(), _reading(url) as reader:
            return {str(key) for (key,) in reader.execute(_BLOBS)}
    with _outages(), _apart(url) as connection:
        return {str(key) for (key,) in connection.execute(str(_BLOBS).encode())}


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, psycopg.OperationalError) as error:
        raise LedgerUnavailable(str(error)) from error


# -- SQLite


def _dump_sqlite(url: URL, folder: Path) -> Cut:
    copy = folder / FILE
    at = time.time()
    with (
        closing(sqlite3.connect(str(url.database), timeout=_BUSY_SECONDS)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)  # all pages at once: one snapshot
        target.execute("pragma journal_mode=delete")  # one file, without a log beside it
        (said,) = target.execute("pragma quick_check").fetchone()
    if said != "ok":
        raise BackupRefused(f"{url.database} is damaged: {said}")
    return Cut(at, (FILE,), {}, _keys(URL.create("sqlite", database=str(copy))))


def _load_sqlite(url: URL, folder: Path) -> None:
    path = Path(str(url.database))
    check_unused(str(url))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.restoring")
    part.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(folder / FILE)) as source,
        closing(sqlite3.connect(part)) as target,
    ):
        source.backup(target)
    part.rename(path)
    SqliteDatabase(url).close()  # it opens


# -- PostgreSQL


@contextmanager
def _apart(url: URL) -> Iterator[psycopg.Connection[Any]]:
    database = PostgresDatabase(url)
    try:
        with closing(database.apart()) as connection:
            yield connection
    finally:
        database.close()


def _dump_postgres(url: URL, folder: Path) -> Cut:
    columns = {table.name: [column.name for column in table.columns] for table in _DATA}
    with _apart(url) as connection:
        (at,) = connection.execute(_CLOCK).fetchall()[0]
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read read only")
            for table, names in columns.items():
                _copy_out(connection, table, names, folder)
            images = connection.execute(str(_BLOBS).encode()).fetchall()
            files = connection.execute(str(_FILES).encode()).fetchall()
    keys = [key for (key,) in images] + [key for (listed,) in files for key in load(listed)]
    return Cut(float(at), tuple(_file(Path(), table).name for table in columns), columns, keys)


def _load_postgres(dsn: str, folder: Path, columns: Mapping[str, list[str]]) -> None:
    check_unused(dsn)
    known = {table.name: {column.name for column in table.columns} for table in _DATA}
    with _apart(parse_dsn(dsn)) as connection, connection.transaction():
        for table, names in columns.items():
            if not known.get(table, set()).issuperset(names):
                raise BackupRefused(f"{folder}: table {table} has columns that are not known here")
            _copy_in(connection, table, names, folder)
        for name in (table.name for table in _DATA if _counted(table)):
            connection.execute(
                f"select setval(pg_get_serial_sequence('{name}', 'seq'), "
                f"coalesce((select max(seq) from {name}), 1))".encode()
            )


def _copy_out(connection: Any, table: str, names: list[str], folder: Path) -> None:
    select = sql.SQL("copy (select {} from {}) to stdout")
    statement = select.format(_list(names), sql.Identifier(table))
    with connection.cursor().copy(statement) as rows, _file(folder, table).open("wb") as file:
        for chunk in rows:
            file.write(chunk)


def _copy_in(connection: Any, table: str, names: list[str], folder: Path) -> None:
    connection.execute(sql.SQL("delete from {}").format(sql.Identifier(table)))
    statement = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(table), _list(names))
    with connection.cursor().copy(statement) as rows, _file(folder, table).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            rows.write(chunk)


def _counted(table: Table) -> bool:
    """Whether the server numbers its rows."""
    return [column.name for column in table.primary_key] == ["seq"]


def _list(names: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _file(folder: Path, table: str) -> Path:
    return folder / f"{table}.copy"


# -- both


def _keys(url: URL) -> list[str]:
    with _reading(url) as connection:
        keys = [str(key) for (key,) in connection.execute(_BLOBS)]
        for (listed,) in connection.execute(_FILES):
            keys += load(listed)
        return keys


@contextmanager
def _reading(url: URL) -> Iterator[Connection]:
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
