"""An imperceptible watermark: laid into pixels with a key, found again without the original.

Found after JPEG, WebP, resizing and cropping (docs/provenance.md has the measurements), not after
rotation or a different stretch of width and height. Pure functions that burn CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.provenance.pattern import BAND_X, BAND_Y, TILE, Floats, MarkKey, from_band, phases, tile

Picture = NDArray[np.uint8]
"""[height, width, 3] RGB, or 4 with alpha."""

AMPLITUDE = 1.3
"""Root mean square, in steps of 255, on plain colour: below what is seen as grain."""
TEXTURE, MOST = 0.06, 1.8
"""How much stronger on texture that hides it: per step of activity, and at most."""
CLIPPED = 1.3
"""How much stronger on black and white, where half of the mark is cut off."""
MOST_CHANGE = 8
"""Of any value of a picture. Screens look at what is drawn before it is marked."""
NEIGHBOURHOOD = 8

FALSE_ALARMS = 1e-9
"""At most this share of unmarked pictures is taken for marked ones, whatever they show."""
STEP = 0.004
"""Between two scales that are tried: the pattern slips by a pixel over half a picture at most."""
SMALLEST, LARGEST = 0.33, 3.0
SEARCHED_EDGE = 1024
"""Of a larger picture the centre is enough."""
STRONGEST = 3.0
"""A frequency counts at most so many times the mean of its like."""


def _scales() -> tuple[float, ...]:
    """Nearest to 1 first, then outwards."""
    logs = np.arange(math.log(SMALLEST), math.log(LARGEST) + STEP, STEP)
    others = sorted(logs.tolist(), key=abs)
    return (1.0, 0.5, 2.0, *(math.exp(log) for log in others))


SCALES = _scales()
_RADIUS = np.hypot(BAND_Y, BAND_X).astype(np.intp)


@dataclass(frozen=True, slots=True)
class FoundMark:
    """A mark. scale: the picture's, over that of the marked one. score: standard deviations of what
    chance gives; the threshold is `threshold`."""

    key_id: str
    scale: float
    score: float


def mark(picture: Picture, key: MarkKey) -> Picture:
    """A marked copy. Alpha stays as it is."""
    height, width = picture.shape[:2]
    light = _luma(picture)
    gain = AMPLITUDE * np.minimum(1 + TEXTURE * _blurred(abs(light - _blurred(light))), MOST)
    gain[(light < 3) | (light > 252)] *= CLIPPED
    repeats = -(-height // TILE), -(-width // TILE)
    change = np.rint(gain * np.tile(tile(key), repeats)[:height, :width])
    change = np.clip(change, -MOST_CHANGE, MOST_CHANGE).astype(np.int16)
    marked = picture.copy()
    colours = picture[..., :3] + change[..., None]
    marked[..., :3] = np.clip(colours, 0, 255, out=colours)
    return marked


def detect(picture: Picture, keys: Sequence[MarkKey]) -> FoundMark | None:
    """The first mark of one of these keys; None where there is none."""
    if not keys:
        return None
    spectrum, enough = _spectrum(picture), threshold(len(keys))
    for scale in SCALES:
        lines, weights = _lines(spectrum, scale)
        for key in keys:
            if _score(lines, weights, key) >= enough:
                return _best(spectrum, key, [scale * math.exp(STEP * n) for n in range(-8, 9)])
    return None


def strongest(picture: Picture, key: MarkKey) -> FoundMark:
    """The best of all scales, whether it is a mark or not: for measurements."""
    return _best(_spectrum(picture), key, SCALES)


def _best(spectrum: NDArray[np.complex64], key: MarkKey, scales: Sequence[float]) -> FoundMark:
    score, scale = max((_score(*_lines(spectrum, scale), key), scale) for scale in scales)
    return FoundMark(key.id, scale, score)


def threshold(keys: int) -> float:
    """The score that an unmarked picture reaches with a chance of FALSE_ALARMS at most.

    A key's phases are uniform, independent, and independent of the picture. At one place and scale
    the score is therefore a weighted sum of cosines of uniform angles over its standard deviation.
    As E exp(t cos u) = I0(t) <= exp(t^2 / 4), such a sum passes z with a chance of at most
    exp(-z^2 / 2), for any weights, so for any picture; and a search tries this many of them.
    """
    tried = keys * len(SCALES) * TILE * TILE
    return math.sqrt(2 * math.log(tried / FALSE_ALARMS))


def _luma(picture: Picture) -> Floats:
    """[height, width], 0..255. What is transparent is seen on white."""
    light = sum(picture[..., n] * np.float32(part) for n, part in enumerate((0.299, 0.587, 0.114)))
    if picture.shape[2] == 4:
        opaque = picture[..., 3] / np.float32(255)
        light = light * opaque + 255 * (1 - opaque)
    return np.asarray(light, np.float32)


def _blurred(plane: Floats) -> Floats:
    """Means of its neighbourhoods."""
    height, width = plane.shape
    small = Image.fromarray(plane).reduce(NEIGHBOURHOOD)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


def _spectrum(picture: Picture) -> NDArray[np.complex64]:
    """[n, n / 2 + 1] of the picture without its shapes, each part as strong as the others; its
    centre is the origin, and n is twice its size, so that the nearest frequency is near."""
    height, width = (min(edge, SEARCHED_EDGE) for edge in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    light = _luma(picture[top : top + height, left : left + width])
    detail = light - _blurred(light)
    detail = np.clip(detail / (_blurred(abs(detail)) + 1), -2, 2)
    size = 1 << (2 * max(height, width) - 1).bit_length()
    padded = np.zeros((size, size), np.float32)
    padded[:height, :width] = detail
    padded = np.roll(padded, (-(height // 2), -(width // 2)), axis=(0, 1))
    return np.asarray(np.fft.rfft2(padded), np.complex64)


def _lines(
    spectrum: NDArray[np.complex64], scale: float
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """The band of a picture that was resized by `scale`: directions, of length 1, and weights, 0
    for frequencies that it cannot hold."""
    size = len(spectrum)
    y, x = (np.rint(band * (size / (TILE * scale))).astype(np.intp) for band in (BAND_Y, BAND_X))
    held = np.maximum(abs(y), x) < 0.47 * size
    values = np.where(held, spectrum[y % size, np.minimum(x, size // 2)], 0).astype(np.complex128)
    strength = abs(values)
    total = np.bincount(_RADIUS, strength) / np.maximum(np.bincount(_RADIUS, held), 1)
    weights = np.minimum(strength / np.maximum(total, 1e-9)[_RADIUS], STRONGEST)
    return values / np.maximum(strength, 1e-9), weights


def _score(lines: NDArray[np.complex128], weights: NDArray[np.float64], key: MarkKey) -> float:
    """Of the best place of the pattern, in standard deviations of chance."""
    matched = from_band(weights * lines * np.exp(-1j * phases(key)))
    return float(matched.max() / math.sqrt((weights**2).sum() / 2 + 1e-9))
