"""One decoder behind the real engine, one render at a time, with the seconds that each took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from engine.capabilities import Capabilities
from engine.decoder import Decoder, DecodeState
from engine.engine import DecoderEngine
from engine.region import Region, edit_passes
from engine.render import Conditioning, Pixels, RenderSpec, RenderUpdate, Source, UpdateKind

PASSES = 12
"""Of a whole picture at medium quality."""
GUIDANCE = 2.0


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
    ) -> Drawn:
        """stored: whether it goes on from the tokens of `before`, or from its pixels alone.
        passes: other than its share of those of a whole picture."""
        source = Source(before.pixels, redraw, before.tokens if stored else None)
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
