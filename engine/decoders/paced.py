"""The paced family: a real decoder without a model. Its tokens, checkpoints and previews are
deterministic, and a pass lasts what its cost line, or the table of a real model, says. Queues,
fairness, scaling and chaos are measured with it, on two cores, without measuring the cores."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.cost import PassCost
from engine.decoder import DecodeState, Plan, RenderRejected, cells_to_draw
from engine.decoders.paced_tables import TABLES
from engine.region import Region
from engine.render import Checkpoint, Conditioning, Pixels, RenderSpec, Source

GRID = 16
CELLS = GRID * GRID
CELL_PIXELS = 8
MASKED = 255
COLOURS = 32
MODEL = "paced:none:1"

Tokens = NDArray[np.uint8]
"""uint8 [CELLS]: a colour's number, or MASKED."""


@dataclass(slots=True)
class PacedState:
    """One image of this family."""

    spec: RenderSpec
    pass_no: int
    redrawn: Region
    """Cells that are filled in."""
    tokens: Tokens
    plane: NDArray[np.float64]
    """[CELLS] in 0..1: what the prompt asks for."""
    palette: NDArray[np.uint8]
    """[COLOURS, 3]"""


class PacedDecoder:
    """Coloured blocks in known time.

    pass_ms + per_row_ms * rows is how long a pass lasts, or with `table`, one of TABLES, what that
    says of the rows, times time_scale; `sleep` is how it passes. passes_folder: where each process
    writes down every pass that it has made, for audits (see PassRecord).
    """

    model = MODEL
    picture_size = (GRID * CELL_PIXELS, GRID * CELL_PIXELS)

    def __init__(
        self,
        pass_ms: float = 20.0,
        per_row_ms: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
        passes_folder: str | None = None,
        table: str | None = None,
        time_scale: float = 1.0,
    ) -> None:
        self.cost = PassCost(pass_ms / 1000, per_row_ms / 1000)
        self._seconds: Callable[[int], float] = self.cost.seconds
        if table is not None:
            self._seconds, self.cost = _by_table(table, time_scale)
        self._sleep = sleep
        self._record = None if passes_folder is None else PassRecord(Path(passes_folder))

    def plan(self, spec: RenderSpec) -> Plan:
        cells_to_draw(spec, self.picture_size, CELLS)
        if not spec.guidance > 0:
            raise RenderRejected(f"guidance must be above 0, got {spec.guidance}")
        return Plan(spec.passes, batch_key="paced", pass_seconds=self._seconds(1))

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> PacedState:
        self.plan(spec)
        draw = _random(_prompt_key(spec.conditioning), 0)
        plane, palette = _plane(draw), _palette(draw)
        tokens = _at_first(spec.source, palette)
        redrawn = tokens == MASKED
        if checkpoint is None:
            return PacedState(spec, 0, redrawn, tokens, plane, palette)
        tokens = _unpack(checkpoint, spec.passes, tokens)
        return PacedState(spec, checkpoint.pass_no, redrawn, tokens, plane, palette)

    def step(self, batch: Sequence[DecodeState]) -> None:
        for render in batch:
            _fill_in(_mine(render))
        self._sleep(self._seconds(len(batch)))
        if self._record is not None:
            self._record.write(_mine(render) for render in batch)

    def preview(self, render: DecodeState) -> Pixels:
        mine = _mine(render)
        return _picture(_expected_colours(mine.tokens, mine.palette))

    def checkpoint(self, render: DecodeState) -> Checkpoint:
        mine = _mine(render)
        return Checkpoint(MODEL, mine.pass_no, mine.spec.seed, mine.tokens.tobytes())

    def finish(self, render: DecodeState) -> Pixels:
        mine = _mine(render)
        return _picture(mine.palette[mine.tokens].astype(np.float64))

    def drop(self, render: DecodeState) -> None:
        """Nothing but the engine holds it."""


class PassRecord:
    """A line for each pass of each render, in a file of this process's own: when it ended (seconds
    since the epoch), the render's id, which pass. A batch in one write: a kill leaves no half."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{os.getpid()}-{time.monotonic_ns()}"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, batch: Iterable[PacedState]) -> None:
        """The passes that have just ended."""
        now = time.time()
        lines = (f"{now} {render.spec.render_id} {render.pass_no}\n" for render in batch)
        os.write(self._file, "".join(lines).encode())


def _by_table(name: str, time_scale: float) -> tuple[Callable[[int], float], PassCost]:
    """Seconds by width, and the straight line through its ends. ValueError naming the option."""
    if name not in TABLES:
        raise ValueError(f"table must be one of {', '.join(TABLES)}, got {name!r}")
    if not time_scale > 0:
        raise ValueError(f"time_scale must be above 0, got {time_scale}")
    table = TABLES[name]
    first, last = (time_scale * table.seconds(width) for width in (1, table.widest))
    row = (last - first) / (table.widest - 1)
    return lambda width: time_scale * table.seconds(width), PassCost(max(0.0, first - row), row)


def _mine(render: DecodeState) -> PacedState:
    if not isinstance(render, PacedState):
        raise TypeError(f"not a render of the paced family: {render!r}")
    return render


def _at_first(source: Source | None, palette: NDArray[np.uint8]) -> Tokens:
    """All masked, but for what a source keeps: of every cell the colour nearest to its mean. Its
    tokens are of no use, they are numbers of another prompt's palette."""
    if source is None:
        return np.full(CELLS, MASKED, np.uint8)
    blocks = source.pixels.reshape(GRID, CELL_PIXELS, GRID, CELL_PIXELS, 3)
    means = blocks.mean(axis=(1, 3)).reshape(CELLS, 1, 3)
    nearest = np.square(means - palette).sum(axis=2).argmin(axis=1)
    return np.where(source.redraw, MASKED, nearest).astype(np.uint8)


def _unpack(checkpoint: Checkpoint, passes: int, at_first: Tokens) -> Tokens:
    """ValueError when these cannot be the tokens after that many of the passes."""
    tokens = np.frombuffer(checkpoint.state, np.uint8).copy()
    if tokens.size != CELLS:
        raise ValueError(f"checkpoint holds {tokens.size} tokens, not {CELLS}")
    masked, to_draw = tokens == MASKED, at_first == MASKED
    left = _masked_after(checkpoint.pass_no, passes, int(to_draw.sum()))
    if masked.sum() != left or (tokens[~masked] >= COLOURS).any():
        raise ValueError(f"checkpoint is not one after pass {checkpoint.pass_no} of {passes}")
    if (tokens[~to_draw] != at_first[~to_draw]).any():
        raise ValueError("checkpoint is not one of this source")
    return tokens


def _masked_after(pass_no: int, passes: int, cells: int) -> int:
    return cells - cells * pass_no // passes


def _random(seed: int, pass_no: int) -> np.random.Generator:
    """One stream for each (seed, pass): what a pass draws does not depend on what ran before it."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, pass_no], np.uint64)))


def _prompt_key(conditioning: Conditioning) -> int:
    digest = hashlib.sha256(conditioning.tensors["pooled"].data).digest()
    return int.from_bytes(digest[:8], "little")


def _plane(draw: np.random.Generator) -> NDArray[np.float64]:
    """A few slow waves across the grid, scaled to 0..1: the same for the same prompt."""
    y, x = np.mgrid[0:GRID, 0:GRID] / GRID
    waves: NDArray[np.float64] = np.zeros((GRID, GRID))
    for fx, fy, phase in draw.uniform((-2, -2, 0), (2, 2, 1), (4, 3)):
        waves += np.sin(2 * np.pi * (fx * x + fy * y + phase))
    span = float(waves.max() - waves.min()) or 1.0
    return np.asarray((waves - waves.min()) / span).reshape(CELLS)


def _palette(draw: np.random.Generator) -> NDArray[np.uint8]:
    """A ramp between three random colours."""
    ends = draw.uniform(20, 255, (3, 3))
    at = np.linspace(0, 2, COLOURS)
    ramp = np.stack([np.interp(at, [0, 1, 2], ends[:, channel]) for channel in range(3)], axis=1)
    return ramp.astype(np.uint8)


def _fill_in(render: PacedState) -> None:
    """One pass: unmask this pass's share of the cells. More guidance, less noise on the plane."""
    spec, done = render.spec, render.pass_no + 1
    masked = np.flatnonzero(render.tokens == MASKED)
    draw = _random(spec.seed, done)
    cells = draw.permutation(masked)[_masked_after(done, spec.passes, render.redrawn.sum()) :]
    noise = draw.normal(0, 0.1 / spec.guidance, cells.size)
    levels = np.clip(render.plane[cells] + noise, 0, 1) * (COLOURS - 1)
    render.tokens[cells] = np.rint(levels).astype(np.uint8)
    render.pass_no = done


def _expected_colours(tokens: Tokens, palette: NDArray[np.uint8]) -> NDArray[np.float64]:
    """float64 [CELLS, 3]: a masked cell has the mean of the smallest block around it that knows a
    colour, the palette's mean where nothing is known: blurry early, clear late."""
    known = tokens != MASKED
    colours = np.where(known[:, None], palette[np.where(known, tokens, 0)], 0).astype(np.float64)
    filled = np.tile(palette.mean(axis=0), (CELLS, 1))
    side = GRID
    while side >= 1:
        blocks = GRID // side
        shape = (blocks, side, blocks, side)
        count = known.reshape(shape).sum(axis=(1, 3))
        total = colours.reshape(*shape, 3).sum(axis=(1, 3))
        mean = total / np.maximum(count, 1)[..., None]
        spread = mean.repeat(side, axis=0).repeat(side, axis=1).reshape(CELLS, 3)
        some = count.repeat(side, axis=0).repeat(side, axis=1).reshape(CELLS) > 0
        filled[some] = spread[some]
        side //= 2
    return filled


def _picture(colours: NDArray[np.float64]) -> Pixels:
    """colours: float64 [CELLS, 3] -> uint8 [height, width, 3]."""
    grid = np.rint(colours).astype(np.uint8).reshape(GRID, GRID, 3)
    return grid.repeat(CELL_PIXELS, axis=0).repeat(CELL_PIXELS, axis=1)
