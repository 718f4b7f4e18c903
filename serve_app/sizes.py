"""Picture sizes as the Images API writes them: WIDTHxHEIGHT. Pure; knows no configuration."""

from __future__ import annotations

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
