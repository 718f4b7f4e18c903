"""Lays what the model remembers of things where a layout wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.codec import to_latents
from engine.models.scene_transformer import Remembered
from engine.scene import GRID, PictureLayout, PlacedThing
from engine.weights import WeightsFolder

THINGS = 3
"""Most things of a picture."""


@dataclass(frozen=True)
class Bank:
    """Codes of every concept in every look on white: large, uint8 [concepts, looks, GRID, GRID,
    channels], and small, [concepts, looks, SMALL, SMALL, channels]. turns: whether each concept may
    be mirrored."""

    large: Tensor
    small: Tensor
    turns: tuple[bool, ...]

    @classmethod
    def load(cls, weights: WeightsFolder) -> Bank:
        """WeightsError names the file and field that is missing or wrong."""
        banks = weights.tensors("bank")
        turns = tuple(bool(turn) for turn in weights.field("turns"))
        return cls(banks["large"].to(torch.uint8), banks["small"].to(torch.uint8), turns)

    def codes(self, thing: PlacedThing) -> Tensor:
        """uint8 [rows, columns, channels]. A mirrored thing's cells change places; the picture
        inside of each does not."""
        found = (self.large if thing.large else self.small)[thing.concept, thing.look]
        return found.flip(1) if thing.flipped else found


def told_of(
    layouts: Sequence[PictureLayout | None],
    memory: Bank,
    levels: int,
    dropped: Tensor | None = None,
) -> Remembered:
    """What the network is told of these; nothing of None. dropped: bool [B, THINGS + 1], the things
    of each that it is not told, and last the background."""
    batch, channels = len(layouts), memory.large.shape[-1]
    latents = torch.zeros(batch, THINGS, GRID, GRID, channels)
    there = torch.zeros(batch, THINGS, GRID, GRID, dtype=torch.bool)
    marks = torch.zeros(3, batch, THINGS, dtype=torch.long)
    background = torch.zeros(batch, dtype=torch.long)
    for row, layout in enumerate(layouts):
        if layout is None:
            continue
        background[row] = layout.background + 1
        for at, thing in enumerate(layout.things):
            if dropped is not None and dropped[row, at]:
                continue
            rows = slice(thing.row, thing.row + thing.cells)
            columns = slice(thing.column, thing.column + thing.cells)
            latents[row, at, rows, columns] = to_latents(memory.codes(thing), levels)
            there[row, at, rows, columns] = True
            marks[0, row, at] = thing.colour + 1
            marks[1, row, at], marks[2, row, at] = int(thing.flipped), int(thing.large)
    if dropped is not None:
        background[dropped[:, THINGS]] = 0
    colour, flipped, large = marks
    cells = latents.flatten(2, 3), there.flatten(2, 3)
    return Remembered(*cells, colour, flipped, large, background)
