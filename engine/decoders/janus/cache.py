"""Keys and values of a running batch, one row for each token sequence. transformers' own static
cache has one position for all rows; here every row has its own, so that sequences of any length
join and leave between two steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.decoder import OutOfMemory

BLOCK = 64
"""Attention on a CPU reads whole blocks of positions: its sums come out the same to the last bit
however many empty blocks lie behind (they did in units of 16)."""


@dataclass(eq=False, slots=True)
class Row:
    """One token sequence in the cache."""

    index: int
    position: int = 0
    """Where its next token goes: how many it has."""


class RowCache:
    """Preallocated keys and values, for each layer [rows, heads, width, head_dim].

    The rows in use are always the first ones, and any of them can be brought to the front, so that
    attention reads a slice and never a copy.
    """

    def __init__(
        self,
        layers: int,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """shape: (rows, heads, width, head_dim); the width is rounded up to whole blocks."""
        rows, heads, width, head_dim = shape
        self.width = -(-width // BLOCK) * BLOCK
        self._block = self.width if device.type == "cuda" else BLOCK  # one shape for all kernels
        shape = (rows, heads, self.width, head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self.rows = rows
        self.in_use: list[Row] = []
        """By index."""

    def take(self) -> Row:
        """An empty row. OutOfMemory when there is none."""
        if len(self.in_use) == self.rows:
            raise OutOfMemory(f"all {self.rows} rows of the cache are in use; see the option slots")
        row = Row(len(self.in_use))
        for stored in (*self.keys, *self.values):
            stored[row.index].zero_()  # what is masked still counts where it is NaN
        self.in_use.append(row)
        return row

    def width_for(self, position: int) -> int:
        """How many positions attention reads, so that it sees that one."""
        return -(-(position + 1) // self._block) * self._block

    def release(self, row: Row) -> None:
        """The last row moves to the place of this one."""
        last = self.in_use[-1]
        if last is not row:
            kept = slice(last.position)
            for stored in (*self.keys, *self.values):
                stored[row.index, :, kept] = stored[last.index, :, kept]
            self._put(last, row.index)
        self.in_use.pop()

    def bring_to_front(self, rows: Sequence[Row]) -> None:
        """Make these the first rows, in any order."""
        wanted = set(rows)
        outside = [row for row in rows if row.index >= len(rows)]
        inside = [row for row in self.in_use[: len(rows)] if row not in wanted]
        for mine, other in zip(outside, inside, strict=True):
            self._swap(mine, other)

    def _swap(self, one: Row, other: Row) -> None:
        kept = slice(max(one.position, other.position))
        for stored in (*self.keys, *self.values):
            held = stored[one.index, :, kept].clone()
            stored[one.index, :, kept] = stored[other.index, :, kept]
            stored[other.index, :, kept] = held
        place = one.index
        self._put(one, other.index)
        self._put(other, place)

    def _put(self, row: Row, index: int) -> None:
        row.index = index
        self.in_use[index] = row


class TokenPlaces:
    """Where the tokens of one forward go: token i to position at[i] of row rows[i].

    Takes the place of transformers' Cache. Every token is a batch row of its own, also those of a
    prompt, so that a prompt read at once gives the same keys as one read token by token.
    """

    is_compileable = True

    def __init__(self, cache: RowCache, rows: Tensor, at: Tensor, read: slice, reach: int) -> None:
        """rows, at: int64 [tokens]. read: the rows that attention reads, one for each token, or
        one for all. reach: the highest position among `at`."""
        self._cache = cache
        self._rows = rows
        self._read = read
        self._width = cache.width_for(reach)
        self.at = at
        self.is_sliding = [False] * len(cache.keys)

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write [tokens, heads, 1, head_dim]; returns what is there, [tokens, heads, width,
        head_dim]."""
        return (
            self._write(self._cache.keys[layer], keys),
            self._write(self._cache.values[layer], values),
        )

    def _write(self, stored: Tensor, new: Tensor) -> Tensor:
        stored[self._rows, :, self.at] = new[:, :, 0]
        return stored[self._read, :, : self._width].expand(len(new), -1, -1, -1)

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores, [tokens, 1, 1, width]: nothing up to the token itself,
        minus infinity behind it."""
        behind = torch.arange(self._width, device=self.at.device) > self.at[:, None]
        mask = torch.zeros(behind.shape, dtype=dtype, device=behind.device)
        return mask.masked_fill_(behind, -torch.inf)[:, None, None]

    def get_seq_length(self, layer: int = 0) -> int:
        return self._width

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        return self._width, 0

    def __len__(self) -> int:
        return len(self._cache.keys)
