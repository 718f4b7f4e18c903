"""Where stock pipelines are cut open: the calls that a lane hands up, and the models that answer
the calls of several lanes in one forward."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch

from engine.decoders.diffusers.lanes import current_lane
from engine.decoders.diffusers.loras import LoraHold, RowsNotFirst, mixed
from engine.decoders.diffusers.merge import group_key, mapped, merged, row_count, split
from engine.decoders.diffusers.table import MergeRule

FORMS_MAX = 1024


class Kind(Enum):
    """What a lane stops at."""

    FORWARD = auto()
    STEP = auto()
    ENCODE = auto()
    DECODE = auto()


@dataclass(frozen=True, slots=True, eq=False)
class PipelineCall:
    """A call that a pipeline made inside a lane, and has not been answered yet."""

    kind: Kind
    name: str
    """Of the component."""
    real: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> Any:
        """As the pipeline meant it."""
        return self.real(*self.args, **self.kwargs)

    def arguments(self) -> dict[str, Any]:
        """By name, in the order of the signature."""
        # not cached by the method: that would keep every render's scheduler
        return inspect.signature(self.real).bind(*self.args, **self.kwargs).arguments


def cut(owner: Any, method: str, kind: Kind, name: str) -> Callable[..., Any]:
    """Replace a method of one object: inside a lane it is asked for, elsewhere it runs as before.
    Its signature stays, for pipelines look into it. Returns the real method."""
    real: Callable[..., Any] = getattr(owner, method)

    @functools.wraps(real)
    def ask_or_run(*args: Any, **kwargs: Any) -> Any:
        lane = current_lane()
        if lane is None:
            return real(*args, **kwargs)
        return lane.ask(PipelineCall(kind, name, real, args, kwargs))

    setattr(owner, method, ask_or_run)
    return real


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A forward that waits for its answer. key: only renders of equal keys may share one."""

    key: str
    call: PipelineCall
    arguments: dict[str, Any]
    loras: LoraHold
    """Of its render."""

    @property
    def rows(self) -> int:
        """Of this call."""
        return row_count(self.arguments)


class Denoisers:
    """The denoisers of one pipeline, shared by all lanes. row_chunk: most renders in a forward."""

    def __init__(self, pipe: Any, names: Sequence[str], rule: MergeRule, row_chunk: int) -> None:
        self._rule = rule
        self.row_chunk = row_chunk
        self._parts = {name: part for name in names if (part := getattr(pipe, name, None))}
        self._forms: dict[Hashable, Any] = {}
        self.forwards = 0
        """How many have been run."""
        for name, part in self._parts.items():
            cut(part, "forward", Kind.FORWARD, name)

    def refuse_caches(self) -> None:
        """RuntimeError when a step cache is on: it keeps one render's state in the shared model."""
        for name, part in self._parts.items():
            if getattr(part, "is_cache_enabled", False):
                raise RuntimeError(f"{name}: a step cache mixes renders up; disable_cache() first")

    def answers(self, asked: Sequence[Asked]) -> list[Any]:
        """Of each, in order; as few forwards as their shapes allow."""
        found: dict[int, Any] = {}
        for group in self._groups(asked):
            for start in range(0, len(group), self.row_chunk):
                together = group[start : start + self.row_chunk]
                answers = self._forward([asked[i] for i in together])
                found.update(zip(together, answers, strict=True))
        return [found[i] for i in range(len(asked))]

    def blank(self, asked: Asked) -> Any:
        """Zeros in the form of what the model answers to such a call, of its last real answer; the
        real one when there was none."""
        form = self._forms.get(self._form_key(asked))
        if form is None:
            return self.answers([asked])[0]
        device = next(self._parts[asked.call.name].parameters()).device
        return mapped(form, lambda like: torch.zeros_like(like, device=device))

    def _groups(self, asked: Sequence[Asked]) -> list[list[int]]:
        groups: dict[Hashable, list[int]] = {}
        for i, each in enumerate(asked):
            key = (each.call.name, each.key, group_key(each.arguments, self._rule))
            groups.setdefault(key, []).append(i)
        return list(groups.values())

    def _forward(self, together: Sequence[Asked]) -> list[Any]:
        rows = [each.rows for each in together]
        self.forwards += 1
        try:
            with mixed([(each.rows, each.loras) for each in together]):
                answer = self._answer(together)
        except RowsNotFirst:  # soon: such layers read the inputs
            return [self._forward([each])[0] for each in together]
        answers = split(answer, rows, self._rule)
        self._remember(together[0], answers[0])
        return answers

    def _answer(self, together: Sequence[Asked]) -> Any:
        if len(together) == 1:
            return together[0].call.run()
        arguments = [each.arguments for each in together]
        return together[0].call.real(**merged(arguments, self._rule))

    def _remember(self, asked: Asked, answer: Any) -> None:
        """The form of an answer: its tensors without memory."""
        if len(self._forms) >= FORMS_MAX:
            self._forms.clear()
        self._forms[self._form_key(asked)] = mapped(answer, lambda tensor: tensor.to("meta"))

    def _form_key(self, asked: Asked) -> Hashable:
        key = group_key(asked.arguments, self._rule)
        return (asked.call.name, asked.key, asked.rows, key)
