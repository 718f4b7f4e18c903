"""What differs between the dialects: row locks, and lists as parameters. A list is one parameter
however long it is, so that a statement is prepared and planned once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ARRAY, Dialect, Text, TextClause, TypeDecorator, bindparam, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

_LISTS = {"ids": False, "passed": False, "held": True, "pairs": True}
"""And whether they are of pairs."""


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
