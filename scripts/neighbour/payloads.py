"""What abuses send: prompts on which careless text processing never ends, bodies of many fields,
and forms with pictures that hardly compress."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from functools import lru_cache

import httpx
from PIL import Image

POISON_PROMPTS = (
    "_" * 60 + "ab",
    "Poster\n" + "_" * 44 + "title here",
    "a_" * 8_000 + "!",
    "s p a c e d " * 2_600,
    "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 32_000,
    "e" + "\N{COMBINING ACUTE ACCENT}" * 31_000,
    "\N{ZERO WIDTH SPACE}" * 31_000 + "a fox",
    "1" * 31_000 + " years old",
    "\N{RIGHT-TO-LEFT OVERRIDE}a fox" * 4_000,
)


def many_fields(count: int) -> bytes:
    """A JSON order with that many unknown fields."""
    return json.dumps({"prompt": "a fox", **{f"f{i}": i for i in range(count)}}).encode()


def form_of_two(size_bytes: int) -> tuple[bytes, str]:
    """A multipart edit with an image and a mask of about that size each, and its header line."""
    side = int((size_bytes / 4) ** 0.5)
    fields = {"prompt": "a fox", "quality": "low"}
    return _form(fields, dict.fromkeys(("image", "mask"), noise_png((side, side), "RGBA")))


@lru_cache(maxsize=1)
def _large_files(size: tuple[int, int]) -> dict[str, bytes]:
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, size[0] // 4, size[1] // 4))
    return {"image": noise_png(size, "RGB"), "mask": _png(mask)}


def large_edit(fields: Mapping[str, str], size: tuple[int, int]) -> tuple[bytes, str]:
    """A multipart edit of a corner of noise: what comes out hardly compresses."""
    return _form(fields, _large_files(size))


def noise_png(size: tuple[int, int], mode: str, seed: int = 1) -> bytes:
    """A PNG of random pixels."""
    pixels = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    return _png(Image.frombytes(mode, size, pixels))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _form(fields: Mapping[str, str], files: Mapping[str, bytes]) -> tuple[bytes, str]:
    named = {name: (f"{name}.png", data, "image/png") for name, data in files.items()}
    request = httpx.Request("POST", "http://localhost", data=fields, files=named)
    return request.read(), f"content-type: {request.headers['content-type']}\r\n"
