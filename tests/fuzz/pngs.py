"""Hostile and odd PNGs, chunk by chunk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

Named = tuple[str, bytes]

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes = b"", *, crc: int | None = None) -> bytes:
    """One chunk; its own checksum unless another is wanted."""
    sum_ = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_)


def header(
    width: int, height: int, depth: int = 8, colour: int = 2, tail: bytes = bytes(3)
) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBB", width, height, depth, colour) + tail)


def png(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks) + chunk(b"IEND")


def rows(width_bytes: int, height: int, filter_type: int = 0) -> bytes:
    return zlib.compress((bytes([filter_type]) + bytes(width_bytes)) * height)


HEAD = header(8, 8)
BODY = chunk(b"IDAT", rows(24, 8))


def pngs() -> Iterator[Named]:
    """Every class of lie that the format has room for."""
    yield from _sizes()
    yield from _colours()
    yield from _chunks()
    yield from _pixels()
    yield from _metadata()


def _sizes() -> Iterator[Named]:
    sizes = [(0, 8), (8, 0), (0, 0), (2**31 - 1, 1), (1, 2**31 - 1), (2**31 - 1, 2**31 - 1)]
    sizes += [(2**32 - 1, 2**32 - 1), (65_535, 65_535), (30_000, 30_000), (10_001, 1), (1, 10_001)]
    sizes += [(4097, 4097), (100_000, 160), (9, 8), (8, 9), (7, 8)]
    for width, height in sizes:
        yield f"png-claims-{width}x{height}", png(header(width, height), BODY)
    yield "png-10000x1", png(header(10_000, 1), chunk(b"IDAT", rows(30_000, 1)))
    yield "png-1x10000", png(header(1, 10_000), chunk(b"IDAT", rows(3, 10_000)))
    yield "png-1x1", png(header(1, 1), chunk(b"IDAT", rows(3, 1)))


def _colours() -> Iterator[Named]:
    for colour in range(8):
        for depth in (0, 1, 2, 4, 8, 16, 32):
            width = max(1, 8 * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1) // 8)
            body = chunk(b"IDAT", rows(width, 8))
            yield f"png-colour-{colour}-depth-{depth}", png(header(8, 8, depth, colour), body)
    palette = chunk(b"PLTE", bytes(range(96)))
    body = chunk(b"IDAT", rows(8, 8))
    yield "png-palette", png(header(8, 8, 8, 3), palette, body)
    yield (
        "png-palette-index-outside",
        png(
            header(8, 8, 8, 3),
            chunk(b"PLTE", bytes(3)),
            chunk(b"IDAT", zlib.compress(b"\0" + b"\xff" * 8)),
        ),
    )
    yield "png-palette-odd-length", png(header(8, 8, 8, 3), chunk(b"PLTE", bytes(7)), body)
    yield "png-palette-too-long", png(header(8, 8, 8, 3), chunk(b"PLTE", bytes(3000)), body)
    yield (
        "png-palette-trns-too-long",
        png(header(8, 8, 8, 3), palette, chunk(b"tRNS", bytes(1000)), body),
    )
    yield "png-trns-short", png(HEAD, chunk(b"tRNS", b"\0"), BODY)
    yield (
        "png-trns-16-bit-grey",
        png(header(8, 8, 16, 0), chunk(b"tRNS", b"\x01\x2c"), chunk(b"IDAT", rows(16, 8))),
    )
    for tail in (b"\1\0\0", b"\0\1\0", b"\0\0\1", b"\0\0\2", b"\xff\xff\xff"):
        yield f"png-header-tail-{tail.hex()}", png(header(8, 8, tail=tail), BODY)


def _chunks() -> Iterator[Named]:
    yield "png-signature-alone", SIGNATURE
    yield "png-no-idat", png(HEAD)
    yield "png-no-header", png(BODY)
    yield "png-body-before-header", png(BODY, HEAD)
    yield "png-two-headers", png(HEAD, header(4000, 4000), BODY)
    yield "png-no-end", png(HEAD, BODY)[:-12]
    yield "png-header-short", png(chunk(b"IHDR", bytes(5)), BODY)
    yield (
        "png-header-long",
        png(chunk(b"IHDR", struct.pack(">IIBB", 8, 8, 8, 2) + bytes(300)), BODY),
    )
    yield "png-header-crc", png(chunk(b"IHDR", HEAD[8:-4], crc=1), BODY)
    yield "png-body-crc", png(HEAD, chunk(b"IDAT", BODY[8:-4], crc=1))
    yield "png-text-crc", png(HEAD, chunk(b"tEXt", b"a\0b", crc=1), BODY)
    yield "png-critical-unknown", png(HEAD, chunk(b"EVIL", b"x"), BODY)
    yield "png-name-of-zeros", png(HEAD, chunk(bytes(4), b"x"), BODY)
    for length in (2**31 - 1, 2**31, 2**32 - 1, 10**6):
        broken = struct.pack(">I", length) + b"IDAT" + rows(24, 8)
        yield f"png-chunk-claims-{length}", SIGNATURE + HEAD + broken
        yield f"png-text-claims-{length}", SIGNATURE + HEAD + struct.pack(">I", length) + b"tEXta\0"
    pieces = [chunk(b"IDAT", rows(24, 8)[at : at + 1]) for at in range(len(rows(24, 8)))]
    yield "png-body-in-single-bytes", png(HEAD, *pieces)
    yield "png-body-parted-by-text", png(HEAD, pieces[0], chunk(b"tEXt", b"a\0b"), *pieces[1:])
    yield "png-20000-empty-bodies", png(HEAD, *[chunk(b"IDAT")] * 20_000, BODY)
    yield "png-chunks-after-end", png(HEAD, BODY) + header(9999, 9999) + BODY


def _pixels() -> Iterator[Named]:
    for filter_type in (1, 2, 3, 4, 5, 99, 255):
        body = chunk(b"IDAT", rows(24, 8, filter_type))
        yield f"png-filter-{filter_type}", png(HEAD, body)
    whole = rows(24, 8)
    yield "png-few-rows", png(header(8, 4000), BODY)
    yield "png-many-rows", png(HEAD, chunk(b"IDAT", rows(24, 4000)))
    yield (
        "png-bomb-behind-small-header",
        png(HEAD, chunk(b"IDAT", zlib.compress(bytes(50_000_000), 9))),
    )
    yield (
        "png-bomb-16-megapixels",
        png(header(4096, 4096, 1, 0), chunk(b"IDAT", zlib.compress(bytes(513 * 4096), 9))),
    )
    yield "png-zlib-header", png(HEAD, chunk(b"IDAT", b"\0\0" + whole[2:]))
    yield "png-zlib-dictionary", png(HEAD, chunk(b"IDAT", b"\x78\xbb" + whole[2:]))
    yield "png-zlib-sum", png(HEAD, chunk(b"IDAT", whole[:-4] + b"oops"))
    yield "png-zlib-without-sum", png(HEAD, chunk(b"IDAT", whole[:-4]))
    yield "png-zlib-distance", png(HEAD, chunk(b"IDAT", b"\x78\x9c\x4b\x04\x1f\xff\xff\xff"))
    yield "png-zlib-stored-lie", png(HEAD, chunk(b"IDAT", b"\x78\x01\x01\xff\xff\x00\x00abc"))
    yield "png-gzip-body", png(HEAD, chunk(b"IDAT", b"\x1f\x8b\x08" + whole))
    yield "png-empty-body", png(HEAD, chunk(b"IDAT"))
    for interlaced in (whole, rows(24, 15), rows(3, 1)):
        body = chunk(b"IDAT", interlaced)
        yield f"png-interlaced-{len(interlaced)}", png(header(8, 8, tail=b"\0\0\1"), body)


def _metadata() -> Iterator[Named]:
    bomb = zlib.compress(bytes(20_000_000), 9)
    yield "png-ztxt-bomb", png(HEAD, chunk(b"zTXt", b"a\0\0" + bomb), BODY)
    yield "png-itxt-bomb", png(HEAD, chunk(b"iTXt", b"a\0\1\0\0\0" + bomb), BODY)
    yield "png-iccp-bomb", png(HEAD, chunk(b"iCCP", b"a\0\0" + bomb), BODY)
    yield "png-ztxt-bomb-behind", png(HEAD, BODY, chunk(b"zTXt", b"a\0\0" + bomb))
    million = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9))
    yield "png-ztxt-many-bombs", png(HEAD, *[million] * 100, BODY)
    yield "png-5000-texts", png(HEAD, *[chunk(b"tEXt", b"a\0b")] * 5000, BODY)
    yield "png-ztxt-method", png(HEAD, chunk(b"zTXt", b"a\0\x09" + bomb[:99]), BODY)
    yield "png-ztxt-broken", png(HEAD, chunk(b"zTXt", b"a\0\0oops"), BODY)
    yield "png-itxt-empty", png(HEAD, chunk(b"iTXt"), BODY)
    yield "png-itxt-not-utf8", png(HEAD, chunk(b"iTXt", b"a\0\0\0\xff\xfe\0\xff\0\xff"), BODY)
    yield "png-iccp-broken", png(HEAD, chunk(b"iCCP", b"a\0\0oops"), BODY)
    yield (
        "png-iccp-no-profile",
        png(HEAD, chunk(b"iCCP", b"a\0\0" + zlib.compress(b"acsp" * 99)), BODY),
    )
    yield "png-gamma-empty", png(HEAD, chunk(b"gAMA"), BODY)
    yield "png-phys-empty", png(HEAD, chunk(b"pHYs"), BODY)
    yield "png-chrm-short", png(HEAD, chunk(b"cHRM", bytes(7)), BODY)
    for name, exif in exifs():
        yield f"png-exif-{name}", png(HEAD, chunk(b"eXIf", exif), BODY)
    for frames, plays in ((0, 0), (1, 0), (2, 0), (2**31, 1)):
        control = chunk(b"acTL", struct.pack(">II", frames, plays))
        yield f"png-claims-{frames}-frames", png(HEAD, control, BODY)
    frame = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 9999, 9999, 0, 0, 1, 1, 0, 0))
    yield "png-frame-outside", png(HEAD, chunk(b"acTL", struct.pack(">II", 1, 0)), frame, BODY)


def exifs() -> Iterator[Named]:
    """EXIF blocks, in any container: a small TIFF with entries that lie."""
    yield "empty", b""
    yield "not-tiff", b"oops" * 9
    yield "offset-outside", b"MM\0*\xff\xff\xff\xff"
    yield "directory-of-itself", b"MM\0*\0\0\0\x08" + _entry(0x8769, 4, 1, 8)
    yield "orientation-text", b"MM\0*\0\0\0\x08" + _entry(0x0112, 2, 4, 0x36363636)
    yield "orientation-many", b"MM\0*\0\0\0\x08" + _entry(0x0112, 3, 2**31, 8)
    yield "type-unknown", b"MM\0*\0\0\0\x08" + _entry(0x0112, 99, 1, 6 << 16)
    yield "rational-by-zero", b"MM\0*\0\0\0\x08" + _entry(0x011A, 5, 1, 26) + bytes(8)
    for turn in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65_535):
        yield f"turn-{turn}", b"MM\0*\0\0\0\x08" + _entry(0x0112, 3, 1, turn << 16)


def _entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack(">HHHIII", 1, tag, kind, count, value, 0)
