"""The Decoder protocol: one model family and its verbs. Engines call it from a single thread,
except `plan` (any thread) and `finish` (on another thread, beside the passes): these two must not
touch shared state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from engine.render import Checkpoint, Pixels, RenderSpec


class RenderRejected(ValueError):
    """This family cannot draw what was asked; the message names the field."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a render will cost."""

    passes: int
    batch_key: str
    """Renders share a batch only when it is equal."""
    pass_seconds: float
    """Predicted seconds of one pass of this render alone."""


class DecodeState(Protocol):
    """What a family keeps of one image between passes, mutable, inside one process; leaving the
    batch is dropping this object. A family subclasses nothing: it needs these two attributes."""

    spec: RenderSpec
    pass_no: int


@runtime_checkable
class Decoder(Protocol):
    """One model family.

    model: identity of (family, weights sha256, sampler version), as checkpoints carry it.
    """

    model: str
    picture_size: tuple[int, int]
    """Width and height of what `preview` and `finish` return, before any upscaling."""

    def plan(self, spec: RenderSpec) -> Plan:
        """What it will cost; raises RenderRejected naming the field that cannot be drawn.
        Cheap and pure: called from any thread."""

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> DecodeState:
        """A new render, or one that goes on after `checkpoint.pass_no` passes. With a source, all
        cells but those to redraw hold its picture, and keep it to the end.
        The engine has already dropped a checkpoint of another model identity or seed, and begins
        again without one when this raises."""

    def step(self, batch: Sequence[DecodeState]) -> None:
        """One pass for every render of the batch, each at its own pass number; advances pass_no.
        What a row draws depends on that render alone, never on its neighbours."""

    def preview(self, render: DecodeState) -> Pixels:
        """The picture as far as it is: blurry early, clear late. Changes nothing."""

    def checkpoint(self, render: DecodeState) -> Checkpoint:
        """Everything needed to go on elsewhere; a copy, later passes do not change it."""

    def finish(self, render: DecodeState) -> Pixels:
        """The final picture of a render that has done all its passes."""


def cells_to_draw(spec: RenderSpec, picture_size: tuple[int, int], cells: int) -> int:
    """How many of a family's `cells` this render draws: all, or those that its source redraws.
    RenderRejected when the source does not fit, or the passes are more than the cells, or for
    LoRAs: the families whose pictures are cells have none."""
    if spec.loras:
        raise RenderRejected("loras must be empty: this model has none")
    drawn, source = cells, spec.source
    if source is not None:
        width, height = picture_size
        if source.pixels.shape != (height, width, 3) or source.pixels.dtype != np.uint8:
            raise RenderRejected(
                f"source.pixels must be uint8 [{height}, {width}, 3], got "
                f"{source.pixels.dtype} {list(source.pixels.shape)}"
            )
        if source.redraw.shape != (cells,) or source.redraw.dtype != np.bool_:
            raise RenderRejected(
                f"source.redraw must be bool [{cells}], got "
                f"{source.redraw.dtype} {list(source.redraw.shape)}"
            )
        drawn = int(source.redraw.sum())
        if not drawn:
            raise RenderRejected("source.redraw must name at least one cell to draw")
    if not 1 <= spec.passes <= drawn:
        raise RenderRejected(f"passes must be between 1 and {drawn}, got {spec.passes}")
    return drawn
