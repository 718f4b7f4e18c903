"""Picture sizes as the Images API writes them: WIDTHxHEIGHT. Pure; knows no configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

STEP = 16
LONGEST_EDGE = 3840
MAX_PIXELS = 3840 * 2160
WIDEST_ASPECT = 3
SHAPES = ((1, 1), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16))
"""Aspect ratios that sizes are suggested in."""
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class SizeBounds:
    """Of the pictures that may be asked for. most_pixels is at least four times least_pixels, so
    that there is a size of every shape, or least_pixels is as by default."""

    most_pixels: int = MAX_PIXELS
    least_pixels: int = STEP * STEP

    def parse(self, text: str) -> tuple[int, int]:
        """(width, height) in pixels. ValueError says which rule was broken, and the nearest size
        that breaks none."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("must be 'auto' or WIDTHxHEIGHT, such as '1024x1024'")
        width, height = int(match[1]), int(match[2])
        if broken := self._broken(width, height):
            near = "{}x{}".format(*self.nearest(width, height))
            raise ValueError(f"{broken}; the nearest is '{near}'")
        return width, height

    def _broken(self, width: int, height: int) -> str | None:
        if width % STEP or height % STEP:
            return f"width and height must be divisible by {STEP}"
        if max(width, height) > WIDEST_ASPECT * min(width, height):
            return "the aspect ratio must lie between 1:3 and 3:1"
        if max(width, height) > LONGEST_EDGE or width * height > self.most_pixels:
            return f"at most {LONGEST_EDGE} pixels along an edge and {self.most_pixels} in all"
        if width * height < self.least_pixels:
            return f"at least {self.least_pixels} pixels in all"
        return None

    def nearest(self, width: int, height: int) -> tuple[int, int]:
        """A picture's own size where `parse` would take it, else the allowed one that is nearest to
        its shape. Both in pixels, from 1."""
        aspect = min(max(width / height, 1 / WIDEST_ASPECT), WIDEST_ASPECT)
        area = min(max(width * height, self.least_pixels), self.most_pixels)
        high = min(max(math.sqrt(area / aspect), STEP), LONGEST_EDGE, LONGEST_EDGE / aspect)
        wide = _stepped(high * aspect)
        tall = _stepped(high)
        while wide * tall > self.most_pixels and max(wide, tall) > STEP:
            wide, tall = (wide - STEP, tall) if wide >= tall else (wide, tall - STEP)
        widest = WIDEST_ASPECT * min(wide, tall)
        wide, tall = min(wide, widest), min(tall, widest)
        while wide * tall < self.least_pixels:
            wide, tall = (wide + STEP, tall) if wide <= tall else (wide, tall + STEP)
        return wide, tall

    def of_shapes(self, pixels: int, multiple: int) -> Iterator[tuple[int, int]]:
        """A size of each shape, of about so many pixels and no more, divisible by `multiple`."""
        step, area = math.lcm(STEP, multiple), min(pixels, self.most_pixels)
        for wide, tall in SHAPES:
            scale = math.sqrt(area / (wide * tall))
            size = math.floor(scale * wide / step) * step, math.floor(scale * tall / step) * step
            if min(size) > 0 and self._broken(*size) is None:
                yield size


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) in pixels of any size at all. ValueError as `SizeBounds.parse`."""
    return SizeBounds().parse(text)


def _stepped(pixels: float) -> int:
    return max(STEP, min(LONGEST_EDGE, round(pixels / STEP) * STEP))
