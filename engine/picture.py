"""Pixels to files: resizing and encoding, and the only home of Pillow. Pure functions that burn
CPU: call them from a worker thread or process, never on an event loop."""

from __future__ import annotations

from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image

from engine.render import Pixels

OutputFormat = Literal["png", "webp", "jpeg"]

PREVIEW_QUALITY = 75


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


def encode_preview(
    pixels: Pixels, width: int, height: int, output_format: OutputFormat = "webp"
) -> bytes:
    """A file of the picture at width x height for a viewer who waits: small and quick."""
    return encode(resize(pixels, width, height), output_format, PREVIEW_QUALITY)
