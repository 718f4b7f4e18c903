"""Which cells a changed prompt draws anew, where the picture was drawn here and no mask says it:
things that differ, whole, and the background where it differs. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.region import Region
from engine.scene import GRID, PictureLayout, PlacedThing

Planes = NDArray[np.float32]
"""[side, side, 4]: RGB and alpha, 0 to 1; alpha 0 is background."""

THING_DIFFERS, BACKGROUND_DIFFERS = 0.09, 0.047
"""Mean absolute difference from which something is another one. Of pictures drawn again by the same
words things differ by up to 0.08 and backgrounds by 0.01; another look of the same thing by
0.1, another thing or colour by 0.2 (docs/edits.md)."""
_INSIDE, _OUTSIDE = 0.5, 0.05
_TRACE, _WHOLE = 0.1, 0.8


def changed_cells(before: Planes, after: Planes, layout: PictureLayout) -> Region:
    """before: the picture as it is. after: about as it is to become, in this layout. A background
    that the layout leaves as it is counts as the same."""
    difference = np.abs(before[..., :3] - after[..., :3]).mean(axis=2)
    alphas = before[..., 3], after[..., 3]
    either = np.maximum(*alphas)
    covered = [_cells(alpha).max(axis=1) > _TRACE for alpha in alphas]
    changed, placed = np.zeros(GRID * GRID, np.bool_), np.zeros(GRID * GRID, np.bool_)
    for thing in layout.things:
        there = _there(thing)
        pixels = np.kron(there, np.ones((len(before) // GRID,) * 2, np.bool_))
        placed |= there.reshape(-1)
        if _mean(difference, pixels & (either > _INSIDE)) > THING_DIFFERS:
            changed |= there.reshape(-1) & (covered[0] | covered[1])
    changed |= covered[0] & ~placed  # what stood where nothing is to stand
    if layout.background >= 0 and _mean(difference, either < _OUTSIDE) > BACKGROUND_DIFFERS:
        changed |= _cells(np.minimum(*alphas)).min(axis=1) < _WHOLE
    if layout.background < 0 and changed.all():  # one cell shows what the background is
        changed[_cells(either).mean(axis=1).argmin()] = False
    return changed


def _there(thing: PlacedThing) -> NDArray[np.bool_]:
    """[GRID, GRID]: the cells where it may be."""
    there = np.zeros((GRID, GRID), np.bool_)
    there[thing.row : thing.row + thing.cells, thing.column : thing.column + thing.cells] = True
    return there


def _cells(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """[side, side] -> [cells, pixels of a cell]."""
    edge = len(plane) // GRID
    split = plane.reshape(GRID, edge, GRID, edge).swapaxes(1, 2)
    return split.reshape(GRID * GRID, edge * edge)


def _mean(values: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else 0.0
