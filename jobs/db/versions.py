"""Which version of the tables a database has, and how the missing ones are made."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Table, func, inspect, select

from jobs.db import (
    batch_tables,  # noqa: F401 - its tables are of the same metadata
    webhook_tables,  # noqa: F401 - its tables join the metadata
)
from jobs.db.schema import ADDED_SINCE, SCHEMA_VERSION, metadata, readable_from, version
from jobs.ledger_errors import LedgerError


class SchemaMismatch(LedgerError):
    """The database's tables are of a version that this Meltproof would misread."""


def has_tables(connection: Connection) -> bool:
    """Whether all of the ledger's tables are there. Raises SchemaMismatch.

    A newer version that only added tables, nullable columns or indexes may be worked with, so that
    two releases can run side by side."""
    look = inspect(connection)
    if not look.has_table(readable_from.name):
        return False
    least = found = _newest(connection, readable_from)
    if look.has_table(version.name):
        found = _newest(connection, version)
    if least <= SCHEMA_VERSION and found >= ADDED_SINCE:
        return found >= SCHEMA_VERSION
    advice = (
        f"start Meltproof with schema {least} or newer"
        if least > SCHEMA_VERSION
        else "no release wrote it: name another database, or drop its tables"
    )
    raise SchemaMismatch(
        f"{connection.engine.url.database}: its schema is version {found}, "
        f"this Meltproof works with {SCHEMA_VERSION}; {advice}"
    )


def create_tables(connection: Connection, lock: Callable[[Connection], None]) -> None:
    """Those that are missing, their columns and indexes, inside the caller's transaction; `lock`
    keeps out other processes that do the same. Raises SchemaMismatch."""
    lock(connection)
    if has_tables(connection):
        return
    new = not inspect(connection).has_table(readable_from.name)
    metadata.create_all(connection)
    if new:
        connection.execute(readable_from.insert().values(version=ADDED_SINCE))
    else:
        _add_columns_and_indexes(connection)
    connection.execute(version.insert().values(version=SCHEMA_VERSION))


def _add_columns_and_indexes(connection: Connection) -> None:
    look = inspect(connection)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in look.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                what = f"{column.name} {column.type.compile(connection.dialect)}"
                connection.exec_driver_sql(f"alter table {table.name} add column {what}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _newest(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.max(table.c.version))).scalar_one())
