"""What happened to an image while dispatchers held it: lease by lease, what it passed, in which
slots it was, and how it was let go. Pure; the dispatcher writes it, with the heartbeats in which
something is new and with the outcome, and the ledger keeps it as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

MOST_HOLDS, MOST_SLOTS = 16, 8
"""Of an image, and of a hold: the first one and the last ones are kept."""


@dataclass(frozen=True, slots=True)
class GivenSlot:
    """A slot that an image was given. Times here are seconds since the epoch on the ledger's
    clock."""

    at: float
    replica: str
    from_pass: int
    node: str = ""
    """Its address; empty where there is one."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One lease of an image, as far as it came. None: not under this lease."""

    worker: str
    lease: int
    """Which lease of its job this is, from 1."""
    claimed: float
    encoded: float | None = None
    first_pass: float | None = None
    last_pass: float | None = None
    screened: float | None = None
    finished: float | None = None
    stored: float | None = None
    slots: tuple[GivenSlot, ...] = ()
    passes: int = 0
    """Done at the end of it, with those of earlier holds."""
    left: float | None = None
    """It went back to the queue. None is unknown where another hold follows: its holder died."""
    preempted: bool = False
    """It did so for another job."""


_FIELDS = frozenset(one.name for one in fields(Hold))


def pack(holds: tuple[Hold, ...]) -> str:
    """As the ledger keeps it."""
    return json.dumps([_packed(hold) for hold in _shortened(holds, MOST_HOLDS)])


def _packed(hold: Hold) -> dict[str, Any]:
    known = {name: getattr(hold, name) for name in sorted(_FIELDS)}
    slots = [
        [_short(s.at), s.replica, s.from_pass, s.node] for s in _shortened(hold.slots, MOST_SLOTS)
    ]
    values = {**known, "slots": slots}
    unsaid = {one.name: one.default for one in fields(Hold)} | {"slots": []}
    return {name: _short(value) for name, value in values.items() if value != unsaid[name]}


def _short(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _shortened(items: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    return items if len(items) <= most else (items[0], *items[1 - most :])


def unpack(stored: str | None) -> tuple[Hold, ...]:
    """The inverse, without the fields of newer versions; what cannot be read says nothing."""
    try:
        return tuple(_unpacked(said) for said in json.loads(stored or "[]"))
    except (AttributeError, TypeError, ValueError):
        return ()


def _unpacked(said: Mapping[str, Any]) -> Hold:
    values = {name: value for name, value in said.items() if name in _FIELDS}
    slots = tuple(GivenSlot(*slot) for slot in values.pop("slots", ()))
    return Hold(**values, slots=slots)
