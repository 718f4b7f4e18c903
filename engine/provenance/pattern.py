"""The secret pattern of a watermark: a square tile of noise in one band of frequencies, with phases
from a key. Pure; what marks and what detects share it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TILE = 128
"""Pixels: the tile repeats, so that every part of a picture holds it."""
LOWEST, HIGHEST = 4, 22
"""Cycles a tile, wavelengths of 32 to 6 pixels: above what shading has, below what JPEG at quality
75 and a resize to 50 % take away."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class MarkKey:
    """id: what a found mark says. secret: whoever has it can make and remove the mark."""

    id: str
    secret: bytes = field(repr=False)


def _band() -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Half of the plane; the other half follows, as pixels are real."""
    y, x = np.mgrid[-HIGHEST : HIGHEST + 1, 0 : HIGHEST + 1]
    radius = np.hypot(y, x)
    kept = (radius >= LOWEST) & (radius <= HIGHEST) & ((x > 0) | (y > 0))
    return y[kept].astype(np.intp), x[kept].astype(np.intp)


BAND_Y, BAND_X = _band()


@lru_cache(maxsize=64)
def phases(key: MarkKey) -> NDArray[np.float64]:
    """[frequencies of the band], uniform in 0..2 pi, independent; the id is part of the secret."""
    digest = hmac.digest(key.secret, b"meltproof watermark 1 " + key.id.encode(), hashlib.sha256)
    numbers = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16])))
    found = numbers.random(len(BAND_Y)) * (2 * np.pi)
    found.flags.writeable = False
    return found


@lru_cache(maxsize=64)
def tile(key: MarkKey) -> Floats:
    """[TILE, TILE], mean 0, variance 1."""
    spread = from_band(np.exp(1j * phases(key)))
    return np.ascontiguousarray(spread / spread.std(), np.float32)


def from_band(values: NDArray[np.complex128]) -> NDArray[np.float64]:
    """[TILE, TILE]: at each pixel the sum of Re(value * e^(2 pi i k x / TILE)) over the band."""
    spectrum = np.zeros((TILE, TILE // 2 + 1), np.complex128)
    spectrum[BAND_Y % TILE, BAND_X] = values
    alone = BAND_X == 0  # this column holds both halves
    spectrum[-BAND_Y[alone] % TILE, 0] = values[alone].conj()
    return np.fft.irfft2(spectrum) * (TILE * TILE / 2)
