"""Merging one model's calls of several renders into one, and splitting the answer. Pure: no model,
no state. A call is its arguments by name; its rows are the length of the first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.decoders.diffusers.table import MergeRule

Arguments = Mapping[str, Any]
"""Of one call, by name, in the order of the model's signature."""


def row_count(arguments: Arguments) -> int:
    """Rows of a call: the length of its first argument, a tensor or a list with one entry a row."""
    return len(next(iter(arguments.values())))


def group_key(arguments: Arguments, rule: MergeRule) -> Hashable:
    """Calls of one model and one picture size can be merged when this is equal."""
    rows = row_count(arguments)
    masks = rule.ragged.values()
    return tuple(
        (name, _kind(name, value, rows, rule))
        for name, value in sorted(arguments.items())
        if name not in masks
    )


def _kind(name: str, value: Any, rows: int, rule: MergeRule) -> Hashable:
    if isinstance(value, Tensor):
        return _tensor_kind(name, value, rows, rule)
    if name in rule.per_row:
        return "a list of rows"
    if isinstance(value, Mapping):
        return tuple((k, _kind(k, v, rows, rule)) for k, v in sorted(value.items()))
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        return tuple(_kind(name, v, rows, rule) for v in value)
    return repr(value)


def _tensor_kind(name: str, value: Tensor, rows: int, rule: MergeRule) -> Hashable:
    if name in rule.shared:
        return (value.dtype, value.shape)
    if value.dim() == 0:  # one number for all rows, as SDXL's timestep
        return (value.dtype, ())
    if value.shape[0] not in (1, rows):  # no rule knows it: correct, though never merged
        return ("alone", id(value))
    return (value.dtype, value.shape[2 if name in rule.ragged else 1 :])


def merged(calls: Sequence[Arguments], rule: MergeRule) -> dict[str, Any]:
    """One call with the rows of all, in order. They must have equal keys."""
    rows = [row_count(call) for call in calls]
    calls = [_with_masks(call, calls, rule) for call in calls]
    return {name: _join(name, [call[name] for call in calls], rows, rule) for name in calls[0]}


def _with_masks(call: Arguments, calls: Sequence[Arguments], rule: MergeRule) -> Arguments:
    """A mask of ones for text that came without, where another call's text has one or is of another
    length, so that it gets padding."""
    made: dict[str, Any] = {}
    for text, mask in rule.ragged.items():
        lengths = {other[text].shape[1] for other in calls}
        if call[mask] is None and (
            len(lengths) > 1 or any(other[mask] is not None for other in calls)
        ):
            like = next((o[mask] for o in calls if o[mask] is not None), None)
            dtype = torch.long if like is None else like.dtype
            made[mask] = call[text].new_ones(call[text].shape[:2], dtype=dtype)
    return {**call, **made}


def _join(name: str, values: list[Any], rows: list[int], rule: MergeRule) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return first if name in rule.shared else _concatenated(name, values, rows, rule)
    if name in rule.per_row:
        return [entry for value in values for entry in value]
    if isinstance(first, Mapping):
        return {key: _join(key, [value[key] for value in values], rows, rule) for key in first}
    if isinstance(first, (list, tuple)) and any(isinstance(v, Tensor) for v in first):
        return type(first)(
            _join(name, list(each), rows, rule) for each in zip(*values, strict=True)
        )
    return first


def _concatenated(name: str, values: list[Tensor], rows: list[int], rule: MergeRule) -> Tensor:
    whole = [_of_rows(value, count) for value, count in zip(values, rows, strict=True)]
    if name in rule.ragged or name in rule.ragged.values():
        length = max(value.shape[1] for value in whole)
        whole = [_padded(value, length) for value in whole]
    return torch.cat(whole)


def _of_rows(value: Tensor, rows: int) -> Tensor:
    """What holds for all rows of its call, once for each."""
    if value.dim() == 0:
        return value.expand(rows)
    return value.expand(rows, *value.shape[1:]) if value.shape[0] == 1 else value


def _padded(value: Tensor, length: int) -> Tensor:
    """[rows, shorter, ...] -> [rows, length, ...], zeros (False) at the end."""
    return F.pad(value, (0, 0) * (value.dim() - 2) + (0, length - value.shape[1]))


def split(answer: Any, rows: Sequence[int], rule: MergeRule) -> list[Any]:
    """The answer to a merged call, for each call. Copies: the next forward may use the same memory
    again."""
    if isinstance(answer, Tensor):
        return [part.clone() for part in torch.split(answer, list(rows))]
    if isinstance(answer, list) and rule.answers_per_row:
        each = iter(answer)
        return [[next(each).clone() for _ in range(count)] for count in rows]
    entries = _entries(answer)
    if entries is None:
        return [answer] * len(rows)
    parts = [split(entry, rows, rule) for entry in entries]
    return [_like(answer, [part[i] for part in parts]) for i in range(len(rows))]


def mapped(answer: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """An answer of the same form with every tensor changed."""
    if isinstance(answer, Tensor):
        return change(answer)
    entries = _entries(answer)
    if entries is None:
        return answer
    return _like(answer, [mapped(entry, change) for entry in entries])


def _entries(answer: Any) -> list[Any] | None:
    """Of a tuple, a list or a model's output object; None of anything else."""
    if isinstance(answer, Mapping):  # a ModelOutput is an ordered dict of its fields
        return list(answer.values())
    return list(answer) if isinstance(answer, (list, tuple)) else None


def _like(answer: Any, entries: list[Any]) -> Any:
    if isinstance(answer, Mapping):
        return type(answer)(**dict(zip(answer, entries, strict=True)))
    return type(answer)(entries)
