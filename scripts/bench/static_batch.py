"""Static batching: all rows begin together and come back together. Any decoder family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.decoder import Decoder, DecodeState
from engine.render import Conditioning, Pixels, RenderSpec
from scripts.bench.workload import Ask


def spec_of(ask: Ask, conditioning: Conditioning, guidance: float) -> RenderSpec:
    """The render of one request."""
    return RenderSpec(
        render_id=str(ask.seed),
        conditioning=conditioning,
        seed=ask.seed,
        passes=ask.passes,
        guidance=guidance,
    )


def run_static(decoder: Decoder, specs: Sequence[RenderSpec], *, rows_leave: bool) -> list[Pixels]:
    """One static batch until its longest render is done.

    With rows_leave false a finished row keeps its place in the tensors: another render of the same
    prompt takes the row, so that every pass costs what a full batch costs.
    """
    longest = max(spec.passes for spec in specs)
    renders: list[DecodeState] = [decoder.begin(spec, None) for spec in specs]
    rows = list(renders)
    for done in range(1, longest + 1):
        decoder.step(rows)
        left = [render for render in renders if render.spec.passes > done]
        rows = left if rows_leave else [_row(decoder, row, longest) for row in rows]
    return [decoder.finish(render) for render in renders]


def _row(decoder: Decoder, row: DecodeState, longest: int) -> DecodeState:
    """The row itself while it has passes to do, then one that only takes its room."""
    if row.pass_no < row.spec.passes:
        return row
    return decoder.begin(replace(row.spec, passes=longest), None)
