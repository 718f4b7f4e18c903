"""Messages between replicas of two releases. A rolling update replaces replicas one by one, so that
a decoder hears from a dispatcher that is older, or newer, than it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def between_releases(cls: type[T]) -> type[T]:
    """Decorator of a frozen dataclass with slots: it is pickled by the names of its fields. By
    position, as it would be, a field that one side lacks shifts those behind it or is missing when
    it is read. What the sender does not know has its default, what only it knows is left out; a new
    field needs a default, therefore. TypeError names a field without one that is not said."""
    cls.__getstate__ = _by_name  # type: ignore[method-assign, assignment]
    cls.__setstate__ = _from_names  # type: ignore[attr-defined]
    return cls


def _by_name(message: Any) -> dict[str, Any]:
    return {each.name: getattr(message, each.name) for each in fields(message)}


def _from_names(message: Any, said: Mapping[str, Any]) -> None:
    for each in fields(message):
        value = said.get(each.name, each.default)
        if value is MISSING:
            name = f"{type(message).__name__}.{each.name}"
            raise TypeError(f"{name} is missing: the release that sent it has no such field")
        object.__setattr__(message, each.name, value)
