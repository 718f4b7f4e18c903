"""Pixels back into a file of the kind they came in, about as large: nothing else of it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any

from PIL import Image, JpegImagePlugin

from engine.untrusted.kinds import kind_of

QUALITIES = (90, 75, 50)
"""Tried in turn, where the file's own tables give more bytes than it had."""

SMALL_BYTES = 65_536
"""Not worth another encoding, nor another kind of file."""
LOSSLESS = {"lossless": True, "exact": True, "quality": 0, "method": 1}

Way = tuple[str, Mapping[str, Any]]


def compact(pixels: Image.Image, data: bytes, field: str) -> bytes:
    """pixels: what `data` was decoded to, RGB or RGBA. The first of some encodings that is no
    larger than `data`, or small, or else the smallest. PNG stays lossless; one without alpha may
    become a WebP."""
    smallest: bytes | None = None
    for kind, options in _ways(pixels, data, kind_of(data, field)):
        file = BytesIO()
        try:
            pixels.save(file, kind, **options)
        except (OSError, ValueError, TypeError):  # tables that only a decoder bears
            continue
        if smallest is None or file.tell() < len(smallest):
            smallest = file.getvalue()
        if len(smallest) <= max(len(data), SMALL_BYTES):
            break
    assert smallest is not None
    return smallest


def _ways(pixels: Image.Image, data: bytes, kind: str) -> Iterator[Way]:
    if kind == "JPEG":
        yield from _jpeg(data)
    elif kind == "WEBP" and b"VP8L" not in data[:64]:
        yield from (("WEBP", {"quality": quality, "method": 2}) for quality in QUALITIES)
    elif kind == "WEBP":
        yield "WEBP", LOSSLESS
    else:
        yield "PNG", {"compress_level": 1}
        yield ("PNG", {"compress_level": 6}) if pixels.mode == "RGBA" else ("WEBP", LOSSLESS)


def _jpeg(data: bytes) -> Iterator[Way]:
    """With the tables that it came with, it loses next to nothing and stays as large."""
    with Image.open(BytesIO(data), formats=["JPEG"]) as given:
        tables = given.quantization if isinstance(given, JpegImagePlugin.JpegImageFile) else {}
        sampling = JpegImagePlugin.get_sampling(given)
    if 1 <= len(tables) <= 2:
        yield "JPEG", {"qtables": tables, "subsampling": sampling, "optimize": True}
    for quality in QUALITIES:
        yield "JPEG", {"quality": quality, "optimize": True}
