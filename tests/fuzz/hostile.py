"""Files that mean harm or nothing, always the same ones: what an image service gets to see."""

from __future__ import annotations

import hashlib
import random
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image

from tests.fuzz import jpegs, webps
from tests.fuzz.pngs import BODY, HEAD, Named, chunk, png, pngs

MUTANTS = 16
CUTS = (0.02, 0.1, 0.3, 0.5, 0.8, 0.95)


def hostile_files() -> Iterator[Named]:
    """(name, bytes) of every file, no two alike."""
    seen: set[bytes] = set()
    for source in (_others, _odd, _polyglots, pngs, jpegs.jpegs, webps.webps, _mutants, _heavy):
        for name, data in source():
            digest = hashlib.sha256(data).digest()
            if digest not in seen:
                seen.add(digest)
                yield name, data


def valid_files() -> Iterator[Named]:
    """What the mutants come from: one of each way to write a picture."""
    yield "png-rgb", _saved("RGB", "PNG")
    yield "png-palette", _saved("P", "PNG")
    yield "png-grey-alpha", _saved("LA", "PNG", exif=_exif())
    yield "jpeg", _saved("RGB", "JPEG", exif=_exif())
    yield "jpeg-progressive", _saved("RGB", "JPEG", progressive=True, subsampling=2)
    yield "jpeg-cmyk", _saved("CMYK", "JPEG")
    yield "webp-lossy", _saved("RGBA", "WEBP")
    yield "webp-lossless", _saved("RGBA", "WEBP", lossless=True, exif=_exif())


def _saved(mode: str, kind: str, **options: object) -> bytes:
    values = np.random.default_rng(7).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image, file = Image.fromarray(values).resize((48, 36)), BytesIO()
    if mode == "LA":
        image = image.convert("L")
    image.convert(mode).save(file, kind, **options)
    return file.getvalue()


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a place"
    return exif


def _others() -> Iterator[Named]:
    """What is no PNG, JPEG or WebP, by its first bytes or not at all."""
    image = Image.new("RGB", (8, 8))
    for kind in (
        "GIF",
        "TIFF",
        "BMP",
        "ICO",
        "EPS",
        "PPM",
        "PCX",
        "TGA",
        "JPEG2000",
        "AVIF",
    ):
        file = BytesIO()
        image.save(file, kind)
        yield f"other-{kind.lower()}", file.getvalue()
    starts = {
        "psd": b"8BPS\0\1" + bytes(30),
        "heic": b"\0\0\0\x18ftypheic" + bytes(40),
        "pdf": b"%PDF-1.7\n" + bytes(40),
        "jxl": b"\xff\x0a" + bytes(40),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "svg-xxe": b"<?xml version='1.0'?><!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><s/>",
        "mvg": b"image over 0,0 0,0 'https://127.0.0.1/'",
        "elf": b"\x7fELF" + bytes(99),
        "html": b"<!doctype html><script>alert(1)</script>",
        "text": b"a red fox",
        "zeros": bytes(5000),
        "empty": b"",
        "a-byte": b"\x89",
        "riff-wave": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
        "space-png": b" " + png(HEAD, BODY),
        "bom-png": b"\xef\xbb\xbf" + png(HEAD, BODY),
        "png-newlines": png(HEAD, BODY).replace(b"\r\n", b"\n"),
        "fli": b"\0\0\0\0\x11\xaf" + bytes(130),
    }
    for name, data in starts.items():
        yield f"other-{name}", data


def _odd() -> Iterator[Named]:
    """Nothing wrong with them, and not what one thinks of first."""
    for name, data in valid_files():
        yield f"valid-{name}", data
    for mode in ("1", "L", "I;16", "RGBA"):
        file = BytesIO()
        Image.new(mode, (9, 5), 1).save(file, "PNG")
        yield f"odd-png-{mode}", file.getvalue()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    for kind in ("PNG", "WEBP", "MPO"):
        file = BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        yield f"odd-frames-{kind.lower()}", file.getvalue()


def _polyglots() -> Iterator[Named]:
    """A picture that is something else as well: before, behind or inside."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("evil.class"), b"\xca\xfe\xba\xbe")
    passengers = {
        "zip": archive.getvalue(),
        "html": b"<html><script>alert(1)</script>",
        "php": b"<?php system($_GET['c']); ?>",
        "megabyte": bytes(1_000_000),
        "picture": _saved("RGB", "JPEG"),
    }
    for name, data in valid_files():
        for passenger, more in passengers.items():
            yield f"polyglot-{name}-{passenger}", data + more
    script = b"*/=alert(1);/*"
    yield "polyglot-jpeg-comment", b"\xff\xd8" + jpegs.segment(0xFE, script) + jpegs.plain()[2:]
    yield "polyglot-png-text", png(HEAD, chunk(b"tEXt", b"a\0" + passengers["php"]), BODY)
    yield "polyglot-png-palette", png(HEAD, chunk(b"PLTE", b"<?=`$_GET[1]`?>"), BODY)


def _mutants() -> Iterator[Named]:
    """Valid files with a few bytes changed, lost, doubled or cut off."""
    for name, data in valid_files():
        for cut in CUTS:
            yield f"cut-{name}-{cut}", data[: int(len(data) * cut)]
        for seed in range(MUTANTS):
            chance = random.Random(f"{name}-{seed}")
            change = (_flip, _noise, _lose, _double)[seed % 4]
            yield f"mutant-{name}-{seed}", change(data, chance)


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 3, 10, 30))):
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _noise(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(12, len(data))
    return data[:at] + chance.randbytes(chance.choice((1, 4, 16))) + data[at + 4 :]


def _lose(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(12, len(data))
    return data[:at] + data[at + chance.choice((1, 2, 9, 50)) :]


def _double(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(12, len(data))
    return data[:at] + data[at // 2 :]


def _heavy() -> Iterator[Named]:
    """What costs a decoder seconds or all it may have; names begin with `heavy-`."""
    makers: dict[str, Callable[[], bytes]] = {
        "progressive-20000-scans": lambda: jpegs.progressive_bomb(4096, 20_000),
        "png-rgba-16-megapixels": lambda: _large("RGBA", "PNG"),
        "webp-16-megapixels": lambda: _large("RGB", "WEBP"),
        "jpeg-cmyk-16-megapixels": lambda: _large("CMYK", "JPEG"),
    }
    for name, make in makers.items():
        yield f"heavy-{name}", make()


def _large(mode: str, kind: str) -> bytes:
    file = BytesIO()
    Image.new(mode, (4096, 4096)).save(file, kind)
    return file.getvalue()
