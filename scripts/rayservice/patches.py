"""JSON patches (RFC 6902) that turn one manifest into another. Kustomize replaces lists of custom
resources as a whole, so lists are patched element by element here."""

from __future__ import annotations

from typing import Any

Operation = dict[str, Any]
KEYS = ("groupName", "name")
"""What elements of lists are known by."""


def patch(old: Any, new: Any, path: str = "") -> list[Operation]:
    """The operations, in their order; none where both are equal."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return _of_fields(old, new, path)
    if isinstance(old, list) and isinstance(new, list) and (key := _key(old, new)):
        return _of_elements(old, new, key, path)
    return [{"op": "replace", "path": path, "value": new}]


def _of_fields(old: dict[str, Any], new: dict[str, Any], path: str) -> list[Operation]:
    operations: list[Operation] = []
    for name in [*old, *(name for name in new if name not in old)]:
        at = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
        if name not in new:
            operations.append({"op": "remove", "path": at})
        elif name not in old:
            operations.append({"op": "add", "path": at, "value": new[name]})
        else:
            operations += patch(old[name], new[name], at)
    return operations


def _of_elements(old: list[Any], new: list[Any], key: str, path: str) -> list[Operation]:
    wanted = {one[key] for one in new}
    gone = [number for number, one in enumerate(old) if one[key] not in wanted]
    operations: list[Operation] = [
        {"op": "remove", "path": f"{path}/{number}"} for number in reversed(gone)
    ]
    kept = {one[key]: one for one in old if one[key] in wanted}
    for number, one in enumerate(new):
        at = f"{path}/{number}"
        if one[key] in kept:
            operations += patch(kept[one[key]], one, at)
        else:
            operations.append({"op": "add", "path": at, "value": one})
    return operations


def _key(old: list[Any], new: list[Any]) -> str | None:
    """By which the elements of both lists can be told apart, where they keep their order."""
    for key in KEYS:
        if not all(isinstance(one, dict) and key in one for one in (*old, *new)):
            continue
        before, after = ([one[key] for one in each] for each in (old, new))
        unique = len({*before}) == len(before) and len({*after}) == len(after)
        if unique and [n for n in before if n in after] == [n for n in after if n in before]:
            return key
    return None
