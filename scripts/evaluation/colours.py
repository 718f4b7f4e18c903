"""Which colour a drawing's background and thing have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.render import Pixels
from engine.scene import COLOURS, PALETTE

_APART = 40
"""By how much a pixel differs from the background in one channel, to belong to the thing."""
_MOSTLY = 0.3
"""Share of a thing's pixels that makes a colour its colour, unless another has more."""
_RGB = np.array(list(PALETTE.values()), np.float32)


def nearest(pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    """Row of the palette's nearest colour, [N, 3] -> [N]."""
    weights = np.array([0.3, 0.59, 0.11], np.float32) ** 0.5
    apart = (pixels[:, None] - _RGB[None]) * weights
    return np.square(apart).sum(axis=2).argmin(axis=1)


def background_of(picture: Pixels) -> str:
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    middle = np.median(edge, axis=0).astype(np.float32)
    return COLOURS[int(nearest(middle[None])[0])]


def thing_has(picture: Pixels, colour: str) -> bool:
    """Whether that is the commonest colour of what stands before the background, or common."""
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    apart = np.abs(picture.astype(np.int16) - np.median(edge, axis=0)).max(axis=2) > _APART
    if not apart.any():
        return False
    counts = np.bincount(nearest(picture[apart].astype(np.float32)), minlength=len(COLOURS))
    own = counts[COLOURS.index(colour)]
    return bool(own == counts.max() or own >= _MOSTLY * counts.sum())
