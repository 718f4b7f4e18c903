"""Pixels to files: resizing and encoding, with Pillow. Files of others are read in
engine.untrusted alone. Pure functions that burn CPU: call them from a worker thread or process,
never on an event loop."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.render import Pixels

OutputFormat = Literal["png", "webp", "jpeg"]

PREVIEW_QUALITY = 75
_STRIP_ROWS = 64  # blended at a time: all at once would take ten times the picture's memory


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture at width x height, by Lanczos; the same array when it has that size already."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def encode(pixels: Pixels, output_format: OutputFormat, compression: int = 100) -> bytes:
    """A file of the picture.

    compression: 0-100 as in OpenAI's `output_compression`, the quality of webp and jpeg; png is
    lossless and ignores it. ValueError for another format or a compression out of range.
    """
    if not 0 <= compression <= 100:
        raise ValueError(f"compression must be between 0 and 100, got {compression}")
    image, file = Image.fromarray(pixels), BytesIO()
    match output_format:
        case "png":
            image.save(file, "PNG", compress_level=1)
        case "webp":
            image.save(file, "WEBP", quality=compression, method=1)
        case "jpeg":
            image.save(file, "JPEG", quality=compression)
        case _:
            raise ValueError(f"output_format must be png, webp or jpeg, got {output_format!r}")
    return file.getvalue()


def read_png(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG that we wrote ourselves: uint8 [height, width, 3], or 4 with alpha.
    ValueError for another mode; OSError for what is not a whole PNG. Not for untrusted files."""
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"a PNG of mode {image.mode} is not one of ours")
        return np.asarray(image)


def blend(drawn: Pixels, canvas: NDArray[np.uint8]) -> Pixels:
    """What is drawn, laid under a canvas of the same size: uint8 [height, width, 4], RGBA.
    Alpha 255 gives exactly the canvas, 0 exactly what is drawn. ValueError for another size."""
    if canvas.shape != (*drawn.shape[:2], 4):
        raise ValueError(f"canvas of shape {canvas.shape} does not fit a picture of {drawn.shape}")
    whole = np.empty_like(drawn)
    for top in range(0, len(drawn), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        alpha = canvas[rows, :, 3:].astype(np.uint16)
        mixed = canvas[rows, :, :3] * alpha + drawn[rows] * (255 - alpha)
        whole[rows] = (mixed + 127) // 255
    return whole


def encode_preview(
    pixels: Pixels, width: int, height: int, output_format: OutputFormat = "webp"
) -> bytes:
    """A file of the picture at width x height for a viewer who waits: small and quick."""
    return encode(resize(pixels, width, height), output_format, PREVIEW_QUALITY)
