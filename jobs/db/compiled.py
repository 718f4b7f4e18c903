"""Statements that are compiled once and run without SQLAlchemy, which is half of what a small one
costs, and several of them in one round trip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from psycopg.errors import PipelineAborted
from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from jobs.db.dialects import of_driver

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="named"),
    "postgresql": postgresql.dialect(paramstyle="pyformat"),  # type: ignore[no-untyped-call]
}
Values = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Of types that every driver knows, and the lists of dialects.py. Several: executemany."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Of one statement."""

    rows: list[tuple[Any, ...]]
    count: int
    """Rows that a write has changed."""


def run(
    connection: Connection, statement: ClauseElement, values: Values
) -> CursorResult[*tuple[Any, ...]]:
    """`connection.execute` for a statement whose results need no SQLAlchemy types."""
    dialect = connection.dialect.name
    return connection.exec_driver_sql(_of_driver(statement, dialect), _values(values, dialect))


def send(connection: Connection, *asked: tuple[ClauseElement, Values]) -> list[Answer]:
    """The answers to several statements in this order; on PostgreSQL they make one round trip.
    Raises what SQLAlchemy would, for the first that fails."""
    dialect, driver = connection.dialect.name, connection.connection.driver_connection
    assert driver is not None
    pipeline = dialect == "postgresql" and len(asked) > 1
    cursors: list[Any] = []
    try:
        with driver.pipeline() if pipeline else nullcontext():
            for statement, values in asked:
                cursors.append(cursor := driver.cursor())
                given = _values(values, dialect)
                start = cursor.execute if isinstance(given, Mapping) else cursor.executemany
                start(_of_driver(statement, dialect), given)
        return [Answer(c.fetchall() if c.description else [], c.rowcount) for c in cursors]
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_of_sqlalchemy(connection, _first(error)) from error


def _first(error: BaseException) -> BaseException:
    """In a pipeline, statements behind the failed one only say that they were not run."""
    while isinstance(error, PipelineAborted) and error.__context__ is not None:
        error = error.__context__
    return error


def _as_of_sqlalchemy(connection: Connection, error: Any) -> Exception:
    dialect = connection.dialect
    lost = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    if lost:
        connection.invalidate(error)
    base = dialect.loaded_dbapi.Error
    found: Exception = DBAPIError.instance(
        None, None, error, base, connection_invalidated=lost, dialect=dialect
    )
    return found


def _values(values: Values, dialect: str) -> Values:
    if not isinstance(values, Mapping):
        if len(values) > 1:
            return values
        (values,) = values
    return of_driver(values, dialect)


@cache
def _of_driver(statement: ClauseElement, dialect: str) -> str:
    return str(statement.compile(dialect=_DIALECTS[dialect]))
