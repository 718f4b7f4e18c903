"""What is done to pixels before and after the decoders: sources read, edits blended, files made.
Pure functions of what they are given; dispatch/postprocess.py runs them in a process that can be
killed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.picture import OutputFormat, blend, encode, read_png, resize
from engine.region import from_hex
from engine.render import Pixels, Source


@dataclass(frozen=True, slots=True)
class Unusable:
    """The stored picture that an edit goes on from cannot be used; no other try will help."""

    reason: str


class Postprocessing:
    """cells: of the family's grid."""

    def __init__(self, cells: int) -> None:
        self._cells = cells

    def source(
        self, png: bytes, redraw: str, tokens: bytes | None, strength: float
    ) -> Source | Unusable:
        """What an edit goes on from. png: RGB, or RGBA with a mask: what is opaque stays. redraw:
        hex, see region.py."""
        picture = _read(png)
        if isinstance(picture, Unusable):
            return picture
        try:
            cells = from_hex(redraw, self._cells)
        except ValueError as error:
            return Unusable(f"this edit does not fit the model any more: {error}")
        pixels, mask = picture, None
        if picture.shape[2] == 4:
            pixels = np.ascontiguousarray(picture[..., :3])
            mask = np.where(picture[..., 3] == 255, 0, 255).astype(np.uint8)
        return Source(pixels, cells, tokens, mask, strength)

    def blend(self, pixels: Pixels, width: int, height: int, canvas: bytes) -> Pixels | Unusable:
        """What was drawn, at that size, under the canvas, a PNG."""
        picture = _read(canvas)
        if isinstance(picture, Unusable):
            return picture
        return blend(resize(pixels, width, height), picture)

    def encode(
        self, pixels: Pixels, width: int, height: int, output_format: OutputFormat, quality: int
    ) -> bytes:
        """A file of that size."""
        return encode(resize(pixels, width, height), output_format, quality)


def _read(png: bytes) -> NDArray[np.uint8] | Unusable:
    try:
        return read_png(png)
    except (OSError, ValueError) as error:
        return Unusable(f"the picture to be changed cannot be read: {error}")
