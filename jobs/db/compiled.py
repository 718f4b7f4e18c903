"""Statements as each database takes them: compiled once and run without SQLAlchemy, which is half
of what a small one costs, and several of them in one round trip.

What differs between the dialects is row locks, and lists as parameters. A list is one parameter
however long it is, so that a statement is prepared and planned once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from psycopg.errors import PipelineAborted
from sqlalchemy import (
    ARRAY,
    ClauseElement,
    Connection,
    CursorResult,
    Dialect,
    Text,
    TextClause,
    TypeDecorator,
    bindparam,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

_LISTS = {"ids": False, "passed": False, "held": True, "pairs": True}
"""And whether they are of pairs."""
_DIALECTS: Mapping[str, Dialect] = {
    "sqlite": sqlite.dialect(paramstyle="named"),
    "postgresql": postgresql.dialect(paramstyle="pyformat"),  # type: ignore[no-untyped-call]
}
Values = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""Of types that every driver knows, and the lists of this file. Several: executemany."""


class _PerDialect(TextClause):
    """A statement with dialect-specific parts."""

    inherit_cache = True


class _List(TypeDecorator[Any]):
    """As JSON for SQLite; PostgreSQL has arrays, though none of pairs."""

    impl = Text
    cache_ok = True

    def __init__(self, pairs: bool) -> None:
        super().__init__()
        self.pairs = pairs

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """What SQLAlchemy tells the driver that it gets."""
        as_array = dialect.name == "postgresql" and not self.pairs
        return dialect.type_descriptor(ARRAY(Text) if as_array else Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """What the driver gets."""
        return _of_driver(value, dialect.name, self.pairs)


def _of_driver(values: Any, dialect: str, pairs: bool) -> Any:
    if dialect == "postgresql" and not pairs:
        return list(values)
    return json.dumps(list(values))


def of_driver(values: Mapping[str, Any], dialect: str) -> Mapping[str, Any]:
    """Parameters with the lists among them as the driver gets them."""
    lists = values.keys() & _LISTS.keys()
    if not lists:
        return values
    return {
        **values,
        **{name: _of_driver(values[name], dialect, _LISTS[name]) for name in lists},
    }


_REPLACEMENTS = {
    "sqlite": {
        "in :ids": "in (select value from json_each(:ids))",
        "in :passed": "in (select value from json_each(:passed))",
        "in :held": """in (select json_extract(value, '$[0]'), json_extract(value, '$[1]')
            from json_each(:held))""",
        "from :pairs": """from (select json_extract(value, '$[0]') as first,
            json_extract(value, '$[1]') as second from json_each(:pairs))""",
        " for update skip locked": "",  # one writer at a time: ours already
        " for update": "",
    },
    "postgresql": {
        "in :ids": "= any(:ids)",
        "not in :passed": "<> all(:passed)",
        "in :held": """in (select value ->> 0, cast(value ->> 1 as bigint)
            from json_array_elements(cast(:held as json)))""",
        "from :pairs": """from (select value ->> 0 as first, value ->> 1 as second
            from json_array_elements(cast(:pairs as json)))""",
    },
}


@compiles(_PerDialect)
def _compile(statement: _PerDialect, compiler: SQLCompiler, **options: Any) -> str:
    spelled = statement.text
    for ours, theirs in _REPLACEMENTS.get(compiler.dialect.name, {}).items():
        spelled = spelled.replace(ours, theirs)
    clause = text(spelled).bindparams(*statement._bindparams.values())
    return str(compiler.visit_textclause(clause, **options))  # type: ignore[no-untyped-call]


def of_ids(sql: str) -> TextClause:
    """A statement in which `in :ids` means a list of texts."""
    return _PerDialect(sql).bindparams(bindparam("ids", type_=_List(pairs=False)))


def passing(sql: str) -> TextClause:
    """A statement in which `not in :passed` means not in a list of texts, as in `of_ids`."""
    return _PerDialect(sql).bindparams(bindparam("passed", type_=_List(pairs=False)))


def of_leases(sql: str) -> TextClause:
    """As `of_ids`, and `in :held` means pairs of a job's id and its fence."""
    return of_ids(sql).bindparams(bindparam("held", type_=_List(pairs=True)))


def of_pairs(sql: str) -> TextClause:
    """A statement in which `from :pairs` means a table of texts, `first` and `second`."""
    return _PerDialect(sql).bindparams(bindparam("pairs", type_=_List(pairs=True)))


def locking(sql: str) -> TextClause:
    """A statement that ends in `for update`, which is all of it that SQLite does not know."""
    return _PerDialect(sql)


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
    return connection.exec_driver_sql(_text_of(statement, dialect), _values(values, dialect))


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
                start(_text_of(statement, dialect), given)
        return [Answer(c.fetchall() if c.description else [], c.rowcount) for c in cursors]
    except connection.dialect.loaded_dbapi.Error as error:
        raise _as_of_sqlalchemy(connection, _first(error)) from error
    finally:
        for cursor in cursors:  # of SQLite one that was not read to its end holds its transaction
            cursor.close()


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
def _text_of(statement: ClauseElement, dialect: str) -> str:
    return str(statement.compile(dialect=_DIALECTS[dialect]))
