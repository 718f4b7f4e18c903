"""Hostile and odd JPEGs, segment by segment."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from tests.fuzz.pngs import Named, exifs

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
DC, AC = 0x00, 0x10


def segment(marker: int, data: bytes, *, length: int | None = None) -> bytes:
    size = len(data) + 2 if length is None else length
    return bytes([0xFF, marker]) + struct.pack(">H", size) + data


def plain(mode: str = "RGB", **options: object) -> bytes:
    """A valid JPEG of 32x24 with something on it."""
    image, file = Image.linear_gradient("L").resize((32, 24)).convert(mode), BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def jpegs() -> Iterator[Named]:
    """Every class of lie that the format has room for."""
    yield from _frames()
    yield from _tables()
    yield from _segments()
    yield from _scans()


def _frames() -> Iterator[Named]:
    base = plain()
    at = base.index(b"\xff\xc0") + 4
    frame = bytearray(base[at : at + 15])
    for height, width in ((0, 32), (24, 0), (0, 0), (65_535, 65_535), (24, 65_535), (4096, 4097)):
        frame[1:5] = struct.pack(">HH", height, width)
        yield f"jpeg-claims-{width}x{height}", base[:at] + frame + base[at + 15 :]
    for offset, values in {
        0: (0, 1, 7, 12, 16, 255),  # precision
        5: (0, 1, 2, 4, 5, 255),  # components
        7: (0x00, 0x01, 0x15, 0x44, 0x51, 0xFF),  # sampling
        8: (4, 255),  # quantisation table
        9: (1, 99),  # second component's name
    }.items():
        for value in values:
            broken = bytearray(base)
            broken[at + offset] = value
            yield f"jpeg-frame-byte-{offset}-{value}", bytes(broken)
    for marker in (0xC1, 0xC2, 0xC3, 0xC5, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xF7):
        yield f"jpeg-frame-{marker:x}", base[: at - 3] + bytes([marker]) + base[at - 2 :]
    yield "jpeg-two-frames", base[: at - 4] + base[at - 4 : at + 15] * 2 + base[at + 15 :]
    yield "jpeg-no-frame", base[: at - 4] + base[at + 15 :]


def _tables() -> Iterator[Named]:
    base = plain()
    for marker, name in ((0xDB, "quantisation"), (0xC4, "huffman")):
        at = base.index(bytes([0xFF, marker]))
        size = struct.unpack(">H", base[at + 2 : at + 4])[0] + 2
        table = base[at + 4 : at + size]
        replaced = {
            "none": b"",
            "empty": segment(marker, b""),
            "zeros": segment(marker, table[:1] + bytes(len(table) - 1)),
            "ones": segment(marker, table[:1] + b"\xff" * (len(table) - 1)),
            "short": segment(marker, table[:5]),
            "index": segment(marker, b"\x0f" + table[1:]),
            "wide": segment(marker, b"\x10" + table[1:] * 2),
            "thousands": segment(marker, table) * 2000,
        }
        for how, new in replaced.items():
            yield f"jpeg-{name}-{how}", base[:at] + new + base[at + size :]
    at = base.index(b"\xff\xc4")
    for counts in (b"\x03" + bytes(15), b"\xff" * 16, bytes(15) + b"\xff", b"\1" * 16):
        table = segment(0xC4, b"\0" + counts + bytes(min(sum(counts), 256)))
        yield f"jpeg-huffman-{counts[:2].hex()}-{counts[-1]:x}", base[:at] + table + base[at:]


def _segments() -> Iterator[Named]:
    base = plain()
    body = base[2:]
    yield "jpeg-three-bytes", base[:3]
    yield "jpeg-start-and-end", SOI + EOI + b"\xff"
    yield "jpeg-start-in-start", SOI + SOI + body
    yield "jpeg-no-end", base[:-2]
    yield "jpeg-end-first", SOI + EOI + body
    yield "jpeg-fill", SOI + b"\xff" * 200_000 + body
    yield "jpeg-noise-between", SOI + b"\xff\xfe\0\4hi" + bytes(5000) + body
    for length in (0, 1, 65_535):
        yield f"jpeg-comment-claims-{length}", SOI + segment(0xFE, b"hi", length=length) + body
    yield "jpeg-many-comments", SOI + segment(0xFE, bytes(65_533)) * 64 + body
    yield "jpeg-5000-small-comments", SOI + segment(0xFE, b"") * 5000 + body
    for name, exif in exifs():
        yield f"jpeg-exif-{name}", SOI + segment(0xE1, b"Exif\0\0" + exif) + body
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'" + b"<a>" * 9000
    yield "jpeg-xmp-open", SOI + segment(0xE1, xmp) + body
    for number, count in ((0, 0), (0, 1), (2, 1), (255, 255)):
        profile = b"ICC_PROFILE\0" + bytes([number, count]) + bytes(200)
        yield f"jpeg-icc-{number}-of-{count}", SOI + segment(0xE2, profile) + body
    for multi in (b"", b"MM\0*\0\0\0\x08\0\1\xb0\1\0\4\0\0\0\1\xff\xff\xff\xff", b"II*\0" * 9):
        yield f"jpeg-mpf-{len(multi)}", SOI + segment(0xE2, b"MPF\0" + multi) + body
    for transform in (0, 1, 2, 255):
        adobe = segment(0xEE, b"Adobe\0\x64" + bytes(4) + bytes([transform]))
        yield f"jpeg-adobe-{transform}", SOI + adobe + plain("CMYK")[2:]
    yield "jpeg-thumbnail-lie", SOI + segment(0xE0, b"JFIF\0\1\2\0\0\1\0\1\xff\xff") + body
    yield (
        "jpeg-photoshop",
        SOI + segment(0xED, b"Photoshop 3.0\x008BIM\4\4\0\0\xff\xff\xff\xff") + body,
    )


def _scans() -> Iterator[Named]:
    base = plain()
    at = base.index(b"\xff\xda")
    for offset, value in ((3, 0), (4, 0), (4, 9), (5, 77), (6, 0x77), (11, 63), (13, 0xFF)):
        broken = bytearray(base)
        broken[at + offset] = value
        yield f"jpeg-scan-byte-{offset}-{value}", bytes(broken)
    yield "jpeg-no-scan", base[:at] + EOI
    yield "jpeg-scan-of-ones", base[: at + 14] + b"\xff\0" * 500 + EOI
    yield "jpeg-scan-of-zeros", base[: at + 14] + bytes(500) + EOI
    yield "jpeg-restarts", base[: at + 14] + b"\xff\xd3" * 500 + EOI
    yield "jpeg-restart-interval", base[:at] + segment(0xDD, b"\0\1") + base[at:]
    yield "jpeg-cut-in-scan", base[: at + 60]
    yield "jpeg-large-and-cut", _wide(base, 4000)
    yield "jpeg-progressive", plain(progressive=True)
    yield "jpeg-progressive-again", plain(progressive=True)[:-2] + plain(progressive=True)[2:]
    yield "jpeg-grey", plain("L")
    yield "jpeg-cmyk", plain("CMYK")
    yield "jpeg-100-scans", progressive_bomb(1024, 100)


def _wide(base: bytes, edge: int) -> bytes:
    at = base.index(b"\xff\xc0") + 5
    return base[:at] + struct.pack(">HH", edge, edge) + base[at + 4 :]


def progressive_bomb(edge: int, scans: int) -> bytes:
    """A grey progressive JPEG whose every scan says in 40 bytes that no block changes."""
    one_code = bytes([1]) + bytes(15)  # one symbol, the code 0
    frame = segment(0xC2, struct.pack(">BHHB", 8, edge, edge, 1) + b"\1\x11\0")
    tables = segment(0xDB, bytes(1) + b"\1" * 64)
    tables += segment(0xC4, bytes([DC]) + one_code + b"\0")
    tables += segment(
        0xC4, bytes([AC]) + one_code + b"\xe0"
    )  # a run of 2**14.. blocks without news
    blocks = (edge // 8) ** 2
    first = segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    run = "0" + "1" * 14  # 2**15 - 1 blocks
    bits = run * -(-blocks // (2**15 - 1))
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    again = segment(0xDA, b"\1\1\0\1\x3f\0") + data
    return SOI + tables + frame + first + again * scans + EOI
