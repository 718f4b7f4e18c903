"""What of a picture is drawn anew, and how many passes that needs. Pure, and without a
tensor library: the gateway prices an edit with the same functions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Region = NDArray[np.bool_]
"""bool [cells], row by row: True where a cell is drawn anew."""

_SCATTER = 0x5CA7  # keeps these numbers apart from those of any pass


def edit_passes(passes: int, redrawn: int, cells: int) -> int:
    """Passes of an edit that redraws `redrawn` of `cells`, where a whole picture has `passes`.

    As many cells a pass as in a whole picture, so that work and price go by the cells. What stays
    around them is known from the first pass on: more passes did not bring an edit nearer to what
    was meant (docs/edits.md). Between 1 and `passes`, and never more than the cells to draw.
    ValueError for no cell or too many.
    """
    if not 1 <= redrawn <= cells:
        raise ValueError(f"redrawn cells must be between 1 and {cells}, got {redrawn}")
    return min(redrawn, -(-passes * redrawn // cells))


def changed_passes(passes: int, strength: float, rounds_up: bool) -> int:
    """Passes of a change of `strength` (0..1) in a family that draws pixels, where a whole picture
    has `passes`: the noise of so many is laid on the picture, and taken away again. 0 when it is
    too weak for one. A part of a pass counts as the family's pipelines count it: `rounds_up`, or
    not at all; with their arithmetic, in which 0.29 of 100 is 28.999... (table.Architecture)."""
    share = min(passes * strength, passes)
    return passes - int(passes - share) if rounds_up else int(share)


def scattered(cells: int, share: float, seed: int, core: Region | None = None) -> Region:
    """The cells that a change of strength `share` (0..1) draws anew: at least one, all at 1.0.
    They lie in a few patches, for single cells strewn about look like confetti. A stronger change
    of the same seed redraws all that a weaker one does. The grid is taken to be square.

    core: cells that are drawn anew in any case; others join them from the nearest on."""
    columns = math.isqrt(cells)
    key = np.array([seed, _SCATTER], np.uint64)
    random = np.random.Generator(np.random.Philox(key=key))
    field = random.random((-(-cells // columns), columns))
    for _ in range(2):
        field = _blurred(field)
    core = np.zeros(cells, np.bool_) if core is None else core
    order = np.lexsort((field.reshape(-1)[:cells], _steps_from(core, columns)))
    redraw = np.zeros(cells, np.bool_)
    redraw[order[: max(1, round(cells * share), int(core.sum()))]] = True
    return redraw


def _steps_from(core: Region, columns: int) -> NDArray[np.int64]:
    """How far each cell is from the core, 0 within; all 0 where there is none."""
    rows_columns = np.stack(np.divmod(np.arange(core.size), columns), axis=1)
    if not core.any():
        return np.zeros(core.size, np.int64)
    apart = np.abs(rows_columns[:, None] - rows_columns[core][None]).max(axis=2)
    return np.asarray(apart.min(axis=1), np.int64)


def _blurred(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each the sum of its three by three, the edge repeated outwards."""
    rows, columns = field.shape
    padded = np.pad(field, 1, mode="edge")
    blurred = np.zeros_like(field)
    for y, x in np.ndindex(3, 3):
        blurred += padded[y : y + rows, x : x + columns]
    return blurred


def to_hex(redraw: Region) -> str:
    """A bit each, first cell highest, zeros at the end up to a whole byte."""
    return np.packbits(redraw).tobytes().hex()


def from_hex(text: str, cells: int) -> Region:
    """What `to_hex` made of `cells` cells; ValueError for anything else."""
    packed = bytes.fromhex(text)
    if len(packed) != -(-cells // 8):
        raise ValueError(f"a region of {cells} cells has {-(-cells // 8)} bytes, not {len(packed)}")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(np.bool_)
    if bits[cells:].any():
        raise ValueError(f"the region has cells beyond {cells}")
    return bits[:cells]
