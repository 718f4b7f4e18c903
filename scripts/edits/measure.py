"""One decoder behind the real engine, one render at a time, with the seconds that each took. Full
renders and edits take turns, so that what else the machine does meets them all alike."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from engine.capabilities import Capabilities
from engine.decoder import Decoder, DecodeState
from engine.engine import DecoderEngine
from engine.picture import blend, resize
from engine.region import Region, edit_passes
from engine.render import Conditioning, Pixels, RenderSpec, RenderUpdate, Source, UpdateKind

PASSES = 12
"""Of a whole picture at medium quality."""
GUIDANCE = 2.0
CANVAS = 1024
"""Side of the picture that is handed out."""


@dataclass(frozen=True)
class Drawn:
    """tokens: the final checkpoint. passes: how many it took. seconds: all of its GPU work: what
    the engine says it cost, from encoding its source to the last pass, and its pixels."""

    pixels: Pixels
    tokens: bytes
    passes: int
    seconds: float


class _Timed:
    """A decoder that says how long the pixels took, which the engine makes beside its passes."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder, self.finish_seconds = decoder, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def finish(self, render: DecodeState) -> Pixels:
        began = time.perf_counter()
        pixels = self._decoder.finish(render)
        self.finish_seconds = time.perf_counter() - began
        return pixels


class Studio:
    """Draws pictures, and draws parts of them anew."""

    def __init__(self, decoder: Decoder, can: Capabilities) -> None:
        self._decoder: Any = _Timed(decoder)
        self.can = can

    def draw(self, told: Conditioning, seed: int) -> Drawn:
        return self._run(RenderSpec("whole", told, seed, PASSES, GUIDANCE))

    def edit(
        self,
        before: Drawn,
        redraw: Region,
        told: Conditioning,
        seed: int,
        *,
        stored: bool = True,
        passes: int | None = None,
        strength: float = 1.0,
    ) -> Drawn:
        """stored: whether it goes on from the tokens of `before`, or from its pixels alone.
        passes: other than its share of those of a whole picture. strength: of a change without a
        mask."""
        tokens = before.tokens if stored else None
        source = Source(before.pixels, redraw, tokens, strength=strength)
        passes = passes or edit_passes(PASSES, int(redraw.sum()), self.can.cells)
        return self._run(RenderSpec("edit", told, seed, passes, GUIDANCE, source=source))

    def _run(self, spec: RenderSpec) -> Drawn:
        """One render to its end; RuntimeError when it fails."""
        said: list[RenderUpdate] = []
        engine = DecoderEngine(self._decoder, 1, said.append, time.perf_counter)
        engine.add(spec)
        engine.drain()
        engine.stop()
        last, tokens = said[-1], [update.checkpoint for update in said if update.checkpoint]
        if last.kind is not UpdateKind.DONE or last.pixels is None:
            raise RuntimeError(last.error or f"the render ended as {last.kind}")
        seconds = last.cost_seconds + self._decoder.finish_seconds
        return Drawn(last.pixels, tokens[-1], spec.passes, seconds)


@dataclass
class Kind:
    """A way to draw, and what it took in each turn.

    share: of the cells drawn. stored: whether it goes on from tokens, None for a full render.
    moved: how far a pixel that stays went at most, 0..255.
    """

    name: str
    share: float
    stored: bool | None
    passes: int = 0
    seconds: list[float] = field(default_factory=list)
    moved: int = 0

    def over(self, whole: Kind) -> float:
        """The median of what it took, each over the full render of its own turn."""
        return statistics.median(a / b for a, b in zip(self.seconds, whole.seconds, strict=True))


def kinds() -> list[Kind]:
    """The full render first, then a quarter of an upload."""
    return [
        Kind("a full render", 1.0, None),
        Kind("25 % of uploaded pixels", 1 / 4, False),
        Kind("25 % of stored tokens", 1 / 4, True),
        Kind("6 % of stored tokens", 1 / 16, True),
        Kind("50 % of stored tokens", 1 / 2, True),
        Kind("100 % of uploaded pixels", 1.0, False),
    ]


def measure(studio: Studio, prompts: Sequence[Conditioning], turns: int) -> list[Kind]:
    """Every kind once in every turn, in an order that chance decides; one turn more warms up."""
    found = kinds()
    before = studio.draw(prompts[0], seed=1)
    for turn in range(-1, turns):
        told = prompts[turn % len(prompts)]
        for kind in random.Random(turn).sample(found, len(found)):
            redraw = _first_rows(studio.can.cells, kind.share)
            drawn = _drawn(studio, kind, before, redraw, told, turn + 2)
            kind.passes = drawn.passes
            if turn >= 0:
                kind.seconds.append(drawn.seconds)
            if kind.stored is not None:
                went = moved(before.pixels, drawn.pixels, redraw, studio.can.grid)
                kind.moved = max(kind.moved, went)
    return found


def _drawn(
    studio: Studio, kind: Kind, before: Drawn, redraw: Region, told: Conditioning, seed: int
) -> Drawn:
    if kind.stored is None:
        return studio.draw(told, seed)
    return studio.edit(before, redraw, told, seed, stored=kind.stored)


def _first_rows(cells: int, share: float) -> Region:
    return np.arange(cells) < round(cells * share)


def veil(redraw: Region, grid: tuple[int, int], side: int) -> Pixels:
    """Alpha of a canvas, uint8 [side, side]: 0 where cells are drawn anew, 255 elsewhere."""
    columns, rows = grid
    kept = np.where(redraw, 0, 255).astype(np.uint8).reshape(rows, columns)
    return np.asarray(Image.fromarray(kept).resize((side, side), Image.Resampling.NEAREST))


def moved(before: Pixels, drawn: Pixels, redraw: Region, grid: tuple[int, int]) -> int:
    """How far any pixel that stays went in the picture that is handed out: 0..255."""
    canvas = np.dstack([resize(before, CANVAS, CANVAS), veil(redraw, grid, CANVAS)])
    out = blend(resize(drawn, CANVAS, CANVAS), canvas)
    stays = canvas[..., 3] == 255
    return int(np.abs(out.astype(int) - canvas[..., :3])[stays].max(initial=0))
