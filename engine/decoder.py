"""The Decoder protocol: one model family and its verbs. Engines call it from a single thread,
except `plan` (any thread) and `finish` (on another thread, beside the passes): these two must not
touch shared state. What one render does not survive is raised by the verb; of `step`, see the
errors below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from engine.region import Region
from engine.render import Checkpoint, Pixels, RenderSpec


class RenderRejected(ValueError):
    """This family cannot draw what was asked; the message names the field."""


class OtherEncoder(RenderRejected):
    """The prompt was read by another encoder than this decoder's, as while an update rolls: nothing
    is wrong with the request, whose prompt has to be encoded again. Raised by `plan` alone."""


class OutOfMemory(Exception):
    """There is no room on the device for this beside what is there. Families raise it in place of
    their library's error, from any verb; the message says what would fit. Renders that do not fit
    together go on by half; one that does not fit even alone is rejected with that message."""


class RendersBroken(ArithmeticError):
    """Raised at the end of a `step` that is good for all renders but these, whose numbers are no
    use any more (NaN): they fail, the others have done the pass."""

    def __init__(self, renders: Sequence[DecodeState], reason: str) -> None:
        super().__init__(reason)
        self.renders = tuple(renders)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a render will cost."""

    passes: int
    batch_key: str
    """Renders share a batch only when it is equal."""
    pass_seconds: float
    """Predicted seconds of one pass of this render alone."""
    checkpoint_seconds: float = 0.0
    """Seconds of passes that may be lost with the process: so much later a checkpoint is taken
    again. 0.0: after every pass, for checkpoints of a few KB."""


class DecodeState(Protocol):
    """What a family keeps of one image between passes, mutable, inside one process; leaving the
    batch is dropping this object. A family subclasses nothing: it needs these attributes."""

    spec: RenderSpec
    pass_no: int

    @property
    def redrawn(self) -> Region | None:
        """The cells that it draws; None in families that keep none of a source."""


@runtime_checkable
class Decoder(Protocol):
    """One model family.

    model: identity of (family, weights sha256, sampler version), as checkpoints carry it.
    """

    model: str
    picture_size: tuple[int, int]
    """Width and height of what `preview` and `finish` return, before any upscaling."""

    def plan(self, spec: RenderSpec) -> Plan:
        """What it will cost; raises RenderRejected naming the field that cannot be drawn,
        OtherEncoder for a conditioning that it cannot read. Cheap and pure: called from any
        thread."""

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
        """Everything needed to go on elsewhere; a copy, later passes do not change it. Taken as
        often as the plan says, and when the render leaves or has done its last pass."""

    def finish(self, render: DecodeState) -> Pixels:
        """The final picture of a render that has done all its passes."""

    def drop(self, render: DecodeState) -> None:
        """The last call for every state that `begin` returned, between passes: its render is over,
        or begins again. Let go of what would keep it alive (a greenlet, a row of a cache)."""


def cells_to_draw(spec: RenderSpec, picture_size: tuple[int, int], cells: int) -> int:
    """How many of a family's `cells` this render draws: all, or those that its source redraws.
    RenderRejected when the source does not fit, or the passes are more than the cells, or for
    LoRAs, references and other sizes: the families whose pictures are cells have none."""
    if spec.loras:
        raise RenderRejected("loras must be empty: this model has none")
    if spec.references:
        raise RenderRejected("references must be empty: this model does not look at pictures")
    if (spec.width or picture_size[0], spec.height or picture_size[1]) != picture_size:
        raise RenderRejected("width and height must be {} and {}".format(*picture_size))
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
