"""3 x 3 convolutions in numpy by Winograd's F(4 x 4, 3 x 3), each as three products of matrices: a
quarter of the multiplications, and 2.25 instead of 9 copies of what is convolved (Lavin and Gray
2015, arXiv 1509.09308)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

TILE = 4
_SEEN = TILE + 2
_ROWS = 2
"""Of tiles in a strip."""
Floats = NDArray[np.float32]


def _both_ways(matrix: list[list[float]]) -> Floats:
    """Of what is done along one axis, what is done along two that are flattened."""
    return np.kron(matrix, matrix).astype(np.float32)


_INPUT = _both_ways([
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
])  # fmt: skip
_OUTPUT = _both_ways([
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
])  # fmt: skip
_WEIGHT = np.array([
    [6, 0, 0],
    [-4, -4, -4],
    [-4, 4, -4],
    [1, 2, 4],
    [1, -2, 4],
    [0, 0, 24],
]) / 24  # fmt: skip


def transformed(weight: Floats) -> Floats:
    """[outputs, inputs, 3, 3] -> what `convolved` takes, [36, inputs, outputs]."""
    found = np.einsum("yi,xj,ocij->yxco", _WEIGHT, _WEIGHT, weight.astype(np.float64))
    return np.ascontiguousarray(found.reshape(-1, *found.shape[2:]), np.float32)


def bordered(x: Floats) -> Floats:
    """[H, W, inputs] with zeros around, and for what is below zero: [H + 2, W + 2, inputs]."""
    around = np.zeros((x.shape[0] + 2, x.shape[1] + 2, x.shape[2]), np.float32)
    np.maximum(x, 0, out=around[1:-1, 1:-1])
    return around


def convolved(around: Floats, weight: Floats, bias: Floats) -> Floats:
    """around: [H + 2, W + 2, inputs], H and W multiples of TILE. weight: see `transformed`. bias:
    [outputs]. [H, W, outputs]."""
    return np.concatenate(list(strips(around, weight, bias)))


def strips(around: Floats, weight: Floats, bias: Floats) -> Iterator[Floats]:
    """The same in parts, from top to bottom: [some rows, W, outputs]. What is made in between stays
    in the processor's cache."""
    seen = sliding_window_view(around, (_SEEN, _SEEN), axis=(0, 1))[::TILE, ::TILE]
    down, across, inputs, outputs = *seen.shape[:3], len(bias)
    for top in range(0, down, _ROWS):
        some = seen[top : top + _ROWS].transpose(3, 4, 0, 1, 2).reshape(_SEEN**2, -1)
        found = (_INPUT @ some).reshape(_SEEN**2, -1, inputs) @ weight
        tiles = (_OUTPUT @ found.reshape(_SEEN**2, -1)).reshape(TILE, TILE, -1, across, outputs)
        strip = np.add(tiles.transpose(2, 0, 3, 1, 4), bias, dtype=np.float32)
        yield strip.reshape(-1, TILE * across, outputs)
