"""Statements that every order runs, without what SQLAlchemy does to one each time that it runs:
half of what such a small one costs us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect
from sqlalchemy.dialects import postgresql, sqlite

from jobs.lists import of_driver

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="named"),
    "postgresql": postgresql.dialect(paramstyle="pyformat"),  # type: ignore[no-untyped-call]
}


def run(
    connection: Connection,
    statement: ClauseElement,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> CursorResult[*tuple[Any, ...]]:
    """`connection.execute` for a statement whose values and results need no SQLAlchemy types: those
    that every driver knows, and the lists of lists.py."""
    if len(values) == 1 and not isinstance(values, Mapping):
        (values,) = values
    dialect = connection.dialect.name
    parameters = of_driver(values, dialect) if isinstance(values, Mapping) else values
    return connection.exec_driver_sql(_of_driver(statement, dialect), parameters)


@cache
def _of_driver(statement: ClauseElement, dialect: str) -> str:
    return str(statement.compile(dialect=_DIALECTS[dialect]))
