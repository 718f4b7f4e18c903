"""Pictures with alpha: as a decoder draws them, before a background, and as they are handed out,
without one. Pure."""

from __future__ import annotations

import numpy as np

from engine.render import Pixels

_CLEAR, _SOLID = 0.06, 0.94
"""Alpha below and above which a pixel is all background and all thing: what a codec draws there is
noise."""
_LEAST = 0.3
"""Colours of thinner pixels are not told apart from the background's further than at this alpha."""
_STRIP_ROWS = 64


def cut_out(drawn: Pixels) -> Pixels:
    """uint8 [height, width, 4] -> the same. drawn: a whole picture, its background too, and how
    much each pixel belongs to a thing. The background's colour is taken out of edges, and nothing
    is left where alpha is 0."""
    background = _background(drawn)
    cut = np.zeros_like(drawn)
    for top in range(0, len(drawn), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        alpha = drawn[rows, :, 3:].astype(np.float32) / 255
        alpha = ((alpha - _CLEAR) / (_SOLID - _CLEAR)).clip(0, 1)
        away = (drawn[rows, :, :3] - background) / np.maximum(alpha, _LEAST)
        cut[rows, :, 3:] = (alpha * 255).round()
        colours = (background + away).round().clip(0, 255)
        cut[rows, :, :3] = np.where(cut[rows, :, 3:] > 0, colours, 0)
    return cut


def looks(pixels: Pixels) -> tuple[Pixels, ...]:
    """What is to be seen of a picture, RGB: itself; with alpha, all that was drawn, and what is
    handed out before white."""
    if pixels.shape[2] == 3:
        return (pixels,)
    cut = cut_out(pixels)
    seen = np.empty_like(cut[..., :3])
    for top in range(0, len(cut), _STRIP_ROWS):
        rows = slice(top, top + _STRIP_ROWS)
        alpha = cut[rows, :, 3:].astype(np.uint16)
        seen[rows] = (cut[rows, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return np.ascontiguousarray(pixels[..., :3]), seen


def _background(drawn: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The median colour of what is all background, float32 [3]; white where nothing is."""
    clear = drawn[drawn[..., 3] <= _CLEAR * 255]
    colour = np.median(clear[:, :3], axis=0) if len(clear) else np.full(3, 255.0)
    return np.asarray(colour, np.float32)
