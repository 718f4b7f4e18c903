"""Picture sizes as the Images API writes them: WIDTHxHEIGHT. Pure; knows no configuration."""

from __future__ import annotations

import math
import re

STEP = 16
LONGEST_EDGE = 3840
MAX_PIXELS = 3840 * 2160
WIDEST_ASPECT = 3
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


def parse_size(text: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) in pixels. ValueError says which rule was broken."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("must be 'auto' or WIDTHxHEIGHT, such as '1024x1024'")
    width, height = int(match[1]), int(match[2])
    if width % STEP or height % STEP:
        raise ValueError(f"width and height must be divisible by {STEP}")
    if max(width, height) > WIDEST_ASPECT * min(width, height):
        raise ValueError("the aspect ratio must lie between 1:3 and 3:1")
    if max(width, height) > LONGEST_EDGE or width * height > max_pixels:
        raise ValueError(f"at most {LONGEST_EDGE} pixels along an edge and {max_pixels} in all")
    return width, height


def nearest_size(width: int, height: int, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """A picture's own size where `parse_size` would take it, else the allowed one that is nearest
    to its shape. Both in pixels, from 1."""
    aspect = min(max(width / height, 1 / WIDEST_ASPECT), WIDEST_ASPECT)
    area = min(width * height, max_pixels)
    high = min(max(math.sqrt(area / aspect), STEP), LONGEST_EDGE, LONGEST_EDGE / aspect)
    wide = _stepped(high * aspect)
    tall = _stepped(high)
    while wide * tall > max_pixels and max(wide, tall) > STEP:
        wide, tall = (wide - STEP, tall) if wide >= tall else (wide, tall - STEP)
    widest = WIDEST_ASPECT * min(wide, tall)
    return min(wide, widest), min(tall, widest)


def _stepped(pixels: float) -> int:
    return max(STEP, min(LONGEST_EDGE, round(pixels / STEP) * STEP))
