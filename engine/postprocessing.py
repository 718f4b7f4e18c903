"""What is done to pixels before and after the decoders: sources read, edits blended, files made.
Pure functions of what they are given; dispatch/postprocess.py runs them in a process that can be
killed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.cut_out import cut_out
from engine.enlarger import Enlarger
from engine.picture import OutputFormat, blend, encode, halved, read_png, resize
from engine.provenance.manifest import CannotSign, Made, Signer, Signing
from engine.provenance.pattern import MarkKey
from engine.provenance.watermark import mark
from engine.region import Region, from_hex, scattered
from engine.render import Pixels, Source
from engine.untrusted.kinds import Size
from engine.untrusted.place import touched


@dataclass(frozen=True, slots=True)
class Unusable:
    """The stored picture that an edit goes on from cannot be used; no other try will help."""

    reason: str


@dataclass(frozen=True, slots=True)
class Outgrown(Unusable):
    """It was prepared for pictures of another size or grid than this model's; its canvas is as good
    as ever. masked: whether a mask says what stays."""

    masked: bool


@dataclass(frozen=True, slots=True)
class Unsigned:
    """No file can be signed now, such as when the certificate has expired; this picture's is not
    the one at fault."""

    reason: str


class Postprocessing:
    """cells: of the family's grid. key: marks what is drawn, and nothing that an edit keeps: that
    stays as it was, and gets no second mark where it has one. signing: signs every file, last.
    enlarger: a folder with the weights of one; Pillow enlarges what it does not. Raises CannotSign,
    EnlargerUnusable."""

    def __init__(
        self,
        cells: int,
        key: MarkKey | None = None,
        signing: Signing | None = None,
        enlarger: Path | None = None,
    ) -> None:
        self._cells = cells
        self._key = key
        self._signer = None if signing is None else Signer(signing)
        self._enlarger = None if enlarger is None else Enlarger.load(enlarger)

    def source(
        self,
        png: bytes,
        redraw: str,
        tokens: bytes | None,
        strength: float,
        drawn_size: Size | None = None,
    ) -> Source | Unusable:
        """What an edit goes on from. png: RGB, or RGBA with a mask: what is opaque stays. redraw:
        hex, see region.py. drawn_size: of all pictures of the model, where they have one."""
        picture = _read(png)
        if isinstance(picture, Unusable):
            return picture
        masked, (height, width) = picture.shape[2] == 4, picture.shape[:2]
        try:
            cells = from_hex(redraw, self._cells)
        except ValueError as error:
            return Outgrown(f"this edit does not fit the model any more: {error}", masked)
        if drawn_size not in (None, (width, height)):
            return Outgrown(f"this edit was prepared at {width}x{height} pixels", masked)
        return _source(picture, cells, tokens, strength)

    def source_anew(
        self,
        canvas: bytes,
        place: tuple[Size, Size],
        tokens: bytes | None,
        strength: float,
        seed: int | None,
    ) -> Source | Unusable:
        """The same, prepared from the canvas of an edit whose source is Outgrown. canvas: see
        `blend`. place: the size in which it is drawn, and the grid. seed: of the order, without a
        mask; None where the canvas says what stays."""
        picture, (size, grid) = _read(canvas), place
        if isinstance(picture, Unusable):
            return picture
        small = resize(np.ascontiguousarray(picture[..., :3]), *size)
        if seed is not None:
            return _source(small, scattered(self._cells, strength, seed), tokens, strength)
        keep = Image.fromarray(picture[..., 3])
        cells = np.fromiter(touched(keep, grid), np.bool_)
        alpha = np.asarray(keep.resize(size, Image.Resampling.BOX))
        return _source(np.dstack([small, alpha]), cells, tokens, strength)

    def reference(self, png: bytes) -> Pixels | Unusable:
        """A picture that a model looks at. png: RGB."""
        return _read(png)

    def blend(self, pixels: Pixels, width: int, height: int, canvas: bytes) -> Pixels | Unusable:
        """What was drawn, at that size, under the canvas, a PNG."""
        picture = _read(canvas)
        if isinstance(picture, Unusable):
            return picture
        return blend(self._marked(self.resized(pixels, width, height)), picture)

    def encode(
        self,
        pixels: Pixels,
        size: tuple[int, int],
        output_format: OutputFormat,
        quality: int,
        made: Made,
        preview: bool = False,
    ) -> bytes | Unsigned:
        """A file of that width and height. An edit was marked when it was blended. A preview, which
        is blurred anyway, is not worth the enlarger's time."""
        pixels = resize(pixels, *size) if preview else self.resized(pixels, *size)
        if made.parent is None:
            pixels = self._marked(pixels)
        if pixels.shape[2] == 4:
            pixels = cut_out(pixels)
        file = encode(pixels, output_format, quality)
        if self._signer is None:
            return file
        try:
            return self._signer.sign(file, output_format, made)
        except CannotSign as error:
            return Unsigned(str(error))

    def resized(self, pixels: Pixels, width: int, height: int) -> Pixels:
        """By the enlarger as far as it goes, then by Pillow."""
        enlarger = self._enlarger
        if enlarger is not None and enlarger.takes(pixels, width, height):
            pixels = enlarger.enlarge(pixels)
            if pixels.shape == (2 * height, 2 * width, 3):
                return halved(pixels)
        return resize(pixels, width, height)

    def _marked(self, pixels: Pixels) -> Pixels:
        return pixels if self._key is None else mark(pixels, self._key)


def _source(picture: Pixels, cells: Region, tokens: bytes | None, strength: float) -> Source:
    """picture: with alpha where a mask says what stays."""
    pixels, mask = picture, None
    if picture.shape[2] == 4:
        pixels = np.ascontiguousarray(picture[..., :3])
        mask = np.where(picture[..., 3] == 255, 0, 255).astype(np.uint8)
    return Source(pixels, cells, tokens, mask, strength)


def _read(png: bytes) -> NDArray[np.uint8] | Unusable:
    try:
        return read_png(png)
    except (OSError, ValueError) as error:
        return Unusable(f"the picture to be changed cannot be read: {error}")
