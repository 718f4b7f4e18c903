"""Which cells of a picture are drawn anew, and how many passes they need. Pure, and without a
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

    A pass costs the same however many cells it fills, so fewer cells must mean fewer passes; but
    half the cells need more than half of them, for the first passes decide what it will be.
    Between 1 and `passes`, and never more than the cells. ValueError for no cell or too many.
    """
    if not 1 <= redrawn <= cells:
        raise ValueError(f"redrawn cells must be between 1 and {cells}, got {redrawn}")
    wanted = math.floor(passes * math.pow(redrawn / cells, 0.6))
    return max(1, min(wanted, passes, redrawn))


def scattered(cells: int, share: float, seed: int) -> Region:
    """The cells that a change of strength `share` (0..1) draws anew: at least one, all at 1.0.
    A stronger change of the same seed redraws all that a weaker one does."""
    key = np.array([seed, _SCATTER], np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).random(cells).argsort(kind="stable")
    redraw = np.zeros(cells, np.bool_)
    redraw[order[: max(1, round(cells * share))]] = True
    return redraw


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
