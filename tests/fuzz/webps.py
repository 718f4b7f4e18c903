"""Hostile and odd WebPs, chunk by chunk."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from tests.fuzz.pngs import Named, exifs


def riff(*chunks: bytes, length: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


def chunk(kind: bytes, data: bytes, *, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return kind + struct.pack("<I", size) + data + bytes(len(data) % 2)


def plain(**options: object) -> bytes:
    """A valid WebP of 32x24 with something on it."""
    image, file = Image.linear_gradient("L").resize((32, 24)).convert("RGBA"), BytesIO()
    image.putalpha(image.getchannel("R"))
    image.save(file, "WEBP", **options)
    return file.getvalue()


def extended(width: int, height: int, flags: int = 0) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sizes)


def webps() -> Iterator[Named]:
    """Every class of lie that the format has room for."""
    lossless = plain(lossless=True)
    image = lossless[12:]
    lossy = _chunk_of(plain(), b"VP8 ")
    for length in (0, 1, 4, 2**32 - 1, 10**6):
        yield f"webp-riff-claims-{length}", riff(image, length=length)
    for width, height in ((1, 1), (2**24, 2**24), (16_383, 16_383), (4097, 4096), (33, 24)):
        yield f"webp-canvas-{width}x{height}", riff(extended(width, height), image)
    for bits in (0x3FFF | 0x3FFF << 14, 0, 2**32 - 1, 4096 | 4096 << 14):
        broken = bytearray(lossless)
        broken[21:25] = struct.pack("<I", bits)
        yield f"webp-lossless-claims-{bits:x}", bytes(broken)
    for size in ((0, 0), (0x3FFF, 0x3FFF), (0xFFFF, 0xFFFF), (4000, 4000)):
        broken = bytearray(riff(lossy))
        broken[26:30] = struct.pack("<HH", *size)
        yield f"webp-lossy-claims-{size[0]}x{size[1]}", bytes(broken)
    yield "webp-empty", riff()
    yield "webp-three-letters", riff()[:15]
    yield "webp-canvas-alone", riff(extended(32, 24))
    yield "webp-no-signature", riff(chunk(b"VP8L", b"\0" * 40))
    yield "webp-lossy-no-keyframe", riff(lossy[:8] + b"\xff" + lossy[9:])
    yield "webp-lossy-cut", riff(lossy[:40])
    yield "webp-two-pictures", riff(image, image)
    yield "webp-alpha-lie", riff(extended(32, 24, 0x10), chunk(b"ALPH", b"\1" + bytes(50)), lossy)
    yield "webp-alpha-alone", riff(extended(32, 24, 0x10), chunk(b"ALPH", bytes(5000)))
    yield "webp-chunk-claims", riff(chunk(b"VP8L", image[8:], length=2**31))
    yield "webp-unknown-chunks", riff(extended(32, 24), *[chunk(b"junk", b"x")] * 5000, image)
    yield "webp-icc-broken", riff(extended(32, 24, 0x20), chunk(b"ICCP", b"acsp" * 99), image)
    yield "webp-xmp", riff(extended(32, 24, 4), image, chunk(b"XMP ", b"<x" * 5000))
    for name, exif in exifs():
        yield f"webp-exif-{name}", riff(extended(32, 24, 8), image, chunk(b"EXIF", exif))
    yield from _moving(image)


def _chunk_of(file: bytes, kind: bytes) -> bytes:
    at = file.index(kind)
    return file[at : at + 8 + struct.unpack("<I", file[at + 4 : at + 8])[0]]


def _moving(image: bytes) -> Iterator[Named]:
    head = (extended(32, 24, 2), chunk(b"ANIM", bytes(6)))
    for name, x, width in (("inside", 0, 32), ("outside", 9, 32), ("wide", 0, 2**24)):
        place = [value.to_bytes(3, "little") for value in (x, 0, width - 1, 23, 10)]
        frame = chunk(b"ANMF", b"".join(place) + b"\0" + image)
        yield f"webp-one-frame-{name}", riff(*head, frame)
        yield f"webp-many-frames-{name}", riff(*head, *[frame] * 500)
    yield "webp-no-frames", riff(*head)
    yield "webp-frame-empty", riff(*head, chunk(b"ANMF", b""))
