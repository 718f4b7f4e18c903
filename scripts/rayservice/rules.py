"""The CEL rules of a CRD (x-kubernetes-validations), evaluated as an API server would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import cel

from scripts.rayservice.schemas import Schema

RESERVED = {"namespace": "__namespace__"}
"""Field names that CEL keeps for itself, and how rules write them."""
_OLD = re.compile(r"\boldSelf\b")


def broken_rules(value: Any, schema: Schema, old: Any = None, path: str = "") -> list[str]:
    """`spec.managedBy: the managedBy field is immutable`, for each rule that does not hold. Rules
    about `oldSelf` count where there is an old value."""
    value = with_defaults(value, schema)
    return [
        f"{path.removeprefix('.')}: {rule.get('message', rule['rule'])}"
        for path, rule, value, old in _each_rule(value, schema, old, path)
        if not _holds(rule["rule"], value, old)
    ]


def with_defaults(value: Any, schema: Schema) -> Any:
    """The value as an API server keeps it."""
    if isinstance(value, list):
        return [with_defaults(one, schema.get("items", {})) for one in value]
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {})
    defaults = {name: one["default"] for name, one in fields.items() if "default" in one}
    return {
        name: with_defaults(one, fields.get(name, {})) for name, one in (defaults | value).items()
    }


def _each_rule(
    value: Any, schema: Schema, old: Any, path: str
) -> Iterator[tuple[str, dict[str, str], Any, Any]]:
    for rule in schema.get("x-kubernetes-validations", []):
        if old is not None or not _OLD.search(rule["rule"]):
            yield path, rule, value, old
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _each_rule(one, schema.get("items", {}), None, f"{path}.{number}")
    if isinstance(value, dict):
        for name, one in value.items():
            inner = schema.get("properties", {}).get(name, {})
            before = old.get(name) if isinstance(old, dict) else None
            yield from _each_rule(one, inner, before, f"{path}.{name}")


def _holds(rule: str, value: Any, old: Any) -> bool:
    return cel.evaluate(rule, {"self": _escaped(value), "oldSelf": _escaped(old)}) is True


def _escaped(value: Any) -> Any:
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    if isinstance(value, dict):
        return {RESERVED.get(name, name): _escaped(one) for name, one in value.items()}
    return value
