"""Pixels to files: resizing and encoding, with Pillow, and PNG with ISA-L, which takes an eighth of
the time (docs/decisions/0089). Files of others are read in engine.untrusted alone. Pure functions
that burn CPU: call them from a worker thread or process, never on an event loop."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.render import Pixels

try:
    from isal.isal_zlib import compress as _deflate
except ImportError:  # a GPU machine with only torch on it draws, too
    from zlib import compress as _deflate

OutputFormat = Literal["png", "webp", "jpeg"]

_PNG = b"\x89PNG\r\n\x1a\n"
_COLOURS = {3: 2, 4: 6}  # PNG's colour types, RGB and RGBA, by channels
_UP = 2  # PNG's filter of a row: less the row above
_DEFLATE_LEVEL = 1  # 0-3; 2 and 3 save less than a hundredth of a drawn picture's bytes
_STRIP_ROWS = 64  # blended at a time: all at once would take ten times the picture's memory


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture at width x height, by Lanczos; the same array when it has that size already.
    A fourth channel does not change what becomes of the others."""
    if pixels.shape[:2] == (height, width):
        return pixels
    if pixels.shape[2] == 4:  # Pillow would take out the colours of what is transparent
        alpha = Image.fromarray(pixels[..., 3]).resize((width, height), Image.Resampling.LANCZOS)
        colours = resize(np.ascontiguousarray(pixels[..., :3]), width, height)
        return np.dstack([colours, np.asarray(alpha)])
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def halved(pixels: Pixels) -> Pixels:
    """Half as wide and high, each pixel the mean of four: a seventh of what Lanczos takes, and as
    good where edges are sharp already. RGB, an even number of pixels along both sides."""
    return np.asarray(Image.fromarray(pixels).reduce(2))


def encode(pixels: Pixels, output_format: OutputFormat, compression: int = 100) -> bytes:
    """A file of the picture.

    compression: 0-100 as in OpenAI's `output_compression`, the quality of webp and jpeg; png is
    lossless and ignores it. ValueError for another format or a compression out of range.
    """
    if not 0 <= compression <= 100:
        raise ValueError(f"compression must be between 0 and 100, got {compression}")
    if output_format == "png":
        return _png(pixels)
    image, file = Image.fromarray(pixels), BytesIO()
    match output_format:
        case "webp":
            image.save(file, "WEBP", quality=compression, method=1)
        case "jpeg":
            image.save(file, "JPEG", quality=compression)
        case _:
            raise ValueError(f"output_format must be png, webp or jpeg, got {output_format!r}")
    return file.getvalue()


def _png(pixels: Pixels) -> bytes:
    """See the PNG specification, W3C, third edition. Every row is filtered in the same way: trying
    each filter on each row costs more than it saves on what is drawn here."""
    height, width, channels = pixels.shape
    values = pixels.reshape(height, width * channels)
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0], rows[0, 1:] = _UP, values[0]
    np.subtract(values[1:], values[:-1], out=rows[1:, 1:])
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    body = _deflate(rows, _DEFLATE_LEVEL)
    return _PNG + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def read_png(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG that we wrote ourselves: uint8 [height, width, 3], or 4 with alpha.
    ValueError for another mode; OSError for what is not a whole PNG. Not for untrusted files."""
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        if image.mode not in ("RGB", "RGBA"):
            raise ValueError(f"a PNG of mode {image.mode} is not one of ours")
        return np.asarray(image)


def blend(drawn: Pixels, canvas: NDArray[np.uint8]) -> Pixels:
    """What is drawn, laid under a canvas of the same size: uint8 [height, width, 4], RGBA.
    Alpha 255 gives exactly the canvas, 0 exactly what is drawn. What is drawn keeps an alpha of its
    own. ValueError for another size."""
    if canvas.shape != (*drawn.shape[:2], 4):
        raise ValueError(f"canvas of shape {canvas.shape} does not fit a picture of {drawn.shape}")
    whole = np.empty_like(drawn)
    for top in range(0, len(drawn), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        alpha = canvas[rows, :, 3:].astype(np.uint16)
        mixed = canvas[rows, :, :3] * alpha + drawn[rows, :, :3] * (255 - alpha)
        whole[rows, :, :3] = (mixed + 127) // 255
    whole[..., 3:] = drawn[..., 3:]
    return whole
