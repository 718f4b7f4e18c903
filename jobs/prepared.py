"""Statements that every order runs, without what SQLAlchemy does to one each time that it runs:
half of what such a small one costs us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Dialect, TextClause
from sqlalchemy.dialects import postgresql, sqlite

_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="named"),
    "postgresql": postgresql.dialect(paramstyle="pyformat"),  # type: ignore[no-untyped-call]
}


def run(
    connection: Connection,
    statement: TextClause,
    values: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> CursorResult[Any]:
    """`connection.execute` for a plain `text` whose values every driver knows."""
    return connection.exec_driver_sql(_of_driver(statement, connection.dialect.name), values)


@cache
def _of_driver(statement: TextClause, dialect: str) -> str:
    return str(statement.compile(dialect=_DIALECTS[dialect]))
