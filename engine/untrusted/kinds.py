"""What a file is by its first bytes, whatever its name or its declared type. Pure."""

from __future__ import annotations

import struct

from engine.untrusted.budget import Refused

Size = tuple[int, int]

ALLOWED = "PNG, JPEG and WebP are accepted"

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"II+\0", "a TIFF"),
    (b"MM\0+", "a TIFF"),
    (b"BM", "a BMP"),
    (b"\0\0\1\0", "an ICO"),
    (b"8BPS", "a PSD"),
    (b"%!PS", "an EPS"),
    (b"\xc5\xd0\xd3\xc6", "an EPS"),
    (b"%PDF", "a PDF"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (b"PK\3\4", "a ZIP archive"),
)
_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF"}


def kind_of(data: bytes, field: str) -> str:
    """PNG, JPEG or WEBP; Refused for anything else, saying what it is where that is known."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if not data:
        raise Refused(field, "broken_image", f"the {field} is an empty file")
    raise Refused(field, "unsupported_image", f"the {field} is {_other(data)}; {ALLOWED}")


def _other(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a HEIC or another ISO media file")
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "an SVG or another XML file"
    return "of an unknown kind"


def webp_size(data: bytes) -> Size | None:
    """Width and height that a WebP claims, before a decoder makes room for them; None when its
    first chunk claims nothing."""
    match data[12:16]:
        case b"VP8X" if len(data) >= 30:
            width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
            return width, height
        case b"VP8L" if len(data) >= 25:
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if len(data) >= 30:
            width, height = struct.unpack("<HH", data[26:30])
            return width & 0x3FFF, height & 0x3FFF
    return None
