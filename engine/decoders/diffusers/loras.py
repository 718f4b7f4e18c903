"""LoRAs per render inside one batch: each row of a forward gets those of its own render.

The denoiser stays as it was loaded. While a forward runs, hooks on its layers add to each render's
rows what that render's LoRAs say, so that rows with others, or with none, share the forward. The
sums of a render do not depend on its neighbours: each is computed over that render's rows alone,
and its LoRAs are added in the order of their names.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

from engine.decoder import RenderRejected
from engine.decoders.diffusers import lora_file
from engine.decoders.diffusers.lora_file import Lora, LoraWeights
from engine.decoders.diffusers.table import LORAS_LOADED
from engine.render import LARGEST_LORA_WEIGHT, LoraUse
from engine.text import WeightsError

logger = logging.getLogger(__name__)


class RowsNotFirst(ValueError):
    """A layer's first dimension is not the rows of the forward (it sees the tokens of all rows in
    one list, say), so that LoRAs of it cannot be mixed: those renders need a forward each."""


@dataclass(frozen=True, eq=False)
class LoraHold:
    """The LoRAs of one render, which stay loaded as long as this object lives."""

    loras: tuple[tuple[Lora, float], ...]
    """With their weights, by name."""

    @property
    def identity(self) -> str:
        """Names, files and weights, "" for none: part of the model identity of a checkpoint."""
        return ",".join(f"{lora.name}:{lora.sha256[:16]}@{weight!r}" for lora, weight in self.loras)


class LoraPool:
    """The LoRAs that one component, a denoiser or a text encoder, can run with. All but `check` on
    the thread that runs it."""

    def __init__(
        self,
        pipe: Any,
        component: str,
        listed: Mapping[str, str | Path],
        max_loaded: int = LORAS_LOADED,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`listed` are files, or folders of one, by the name that requests use; `component` of
        `pipe` is what they are for. Loads the first max_loaded. Raises WeightsError naming the
        option for a file that cannot be used."""
        if max_loaded < 1:
            raise ValueError(f"max_loaded must be at least 1, got {max_loaded}")
        if listed and component not in getattr(pipe, "_lora_loadable_modules", ()):
            raise WeightsError(f"loras must be empty: diffusers has none for {type(pipe).__name__}")
        self._pipe = pipe
        self._component = component
        self._max_loaded = max_loaded
        self._clock = clock
        self._files = {
            name: lora_file.find(name, Path(path), pipe) for name, path in listed.items()
        }
        self._loaded: dict[str, Lora] = {}
        """Least recently used first."""
        self._holds: WeakSet[LoraHold] = WeakSet()
        for name in list(self._files)[:max_loaded]:
            self._load(name)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of those in memory, least recently used first."""
        return tuple(self._loaded)

    def check(self, loras: Sequence[LoraUse]) -> None:
        """RenderRejected for what cannot be drawn. Pure: from any thread."""
        names = [use.name for use in loras]
        for use in loras:
            if use.name not in self._files:
                there = ", ".join(sorted(self._files)) or "none"
                raise RenderRejected(f"loras: there is no {use.name!r}; there are: {there}")
            if names.count(use.name) > 1:
                raise RenderRejected(f"loras: {use.name!r} is named more than once")
            if not math.isfinite(use.weight) or abs(use.weight) > LARGEST_LORA_WEIGHT:
                raise RenderRejected(
                    f"loras: the weight of {use.name!r} must be between "
                    f"{-LARGEST_LORA_WEIGHT} and {LARGEST_LORA_WEIGHT}, got {use.weight}"
                )
        if len(names) > self._max_loaded:
            raise RenderRejected(f"loras: at most {self._max_loaded} in one render")

    def hold(self, loras: Sequence[LoraUse]) -> LoraHold:
        """Loads those that are not loaded, between two passes. The others stay in memory while a
        render has them, so that more than max_loaded are there when running renders need more.
        RenderRejected for what cannot be drawn, OSError for a file that is gone."""
        self.check(loras)
        self._make_room({use.name for use in loras})
        uses = sorted(loras, key=lambda use: use.name)
        hold = LoraHold(tuple((self._get(use.name), float(use.weight)) for use in uses))
        self._holds.add(hold)
        return hold

    def _make_room(self, wanted: set[str]) -> None:
        """For those that are wanted: the least recently used go that no render has."""
        in_use = wanted | {lora.name for hold in self._holds for lora, _ in hold.loras}
        for name in self.loaded:
            if len(self._loaded.keys() | wanted) <= self._max_loaded:
                return
            if name not in in_use:
                del self._loaded[name]
                logger.info("LoRA %s is no longer loaded", name)

    def _get(self, name: str) -> Lora:
        if name in self._loaded:
            self._loaded[name] = self._loaded.pop(name)  # the most recently used is last
            return self._loaded[name]
        try:
            return self._load(name)
        except WeightsError as error:
            raise RenderRejected(str(error)) from error

    def _load(self, name: str) -> Lora:
        began = self._clock()
        lora = lora_file.load(name, self._files[name], self._pipe, self._component)
        self._loaded[name] = lora
        logger.info(
            "LoRA %s loaded in %.0f ms: %d layers, %.1f MB, %d of %d loaded",
            name,
            (self._clock() - began) * 1000,
            len(lora.weights),
            lora.size_bytes / 1e6,
            len(self._loaded),
            self._max_loaded,
        )
        return lora


@dataclass(frozen=True, slots=True)
class _Part:
    """What one LoRA adds to a layer's answer for one render."""

    rows: slice
    weights: LoraWeights
    scale: float


@contextmanager
def mixed(shares: Sequence[tuple[int, LoraHold]]) -> Iterator[None]:
    """Inside, a forward of the denoiser draws its first rows with the first render's LoRAs, and so
    on: `shares` are each render's number of rows (two with paired guidance) and its hold. With one
    of them, the whole forward. It may raise RowsNotFirst with several."""
    hooks = [
        layer.register_forward_hook(_adding(parts, [count for count, _ in shares]))
        for layer, parts in _by_layer(shares).items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _by_layer(shares: Sequence[tuple[int, LoraHold]]) -> dict[nn.Module, list[_Part]]:
    found: dict[nn.Module, list[_Part]] = {}
    start = 0
    for count, hold in shares:
        rows = slice(start, start + count)
        start += count
        for lora, weight in hold.loras:
            for each in lora.weights:
                found.setdefault(each.layer, []).append(_Part(rows, each, each.scale * weight))
    return found


def _adding(
    parts: Sequence[_Part], counts: Sequence[int]
) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def add(layer: nn.Module, arguments: tuple[Any, ...], answer: Tensor) -> None:
        """answer: [rows, ...], changed in place."""
        inputs = arguments[0]
        alone = len(counts) == 1
        if not alone and len(answer) != sum(counts):
            raise RowsNotFirst(f"{parts[0].weights.path} sees {len(answer)} of {sum(counts)} rows")
        for part in parts:
            rows = slice(None) if alone else part.rows
            down, up = part.weights.down, part.weights.up
            x = inputs[rows].to(next(down.parameters()).dtype)
            answer[rows].add_(up(down(x)) * part.scale)

    return add
