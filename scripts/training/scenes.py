"""Draws the layouts that the network is trained on; the same `rng` gives the same list."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from engine.scene import COLOURS, GRID, LOOKS, SMALL, PictureLayout, PlacedThing

WHITE_SHARE, COLOUR_SHARE, FLIP_SHARE = 0.35, 0.25, 0.4
KINDS = {"large": 0.58, "small": 0.12, "two": 0.18, "counted": 0.12}
LOOK_SHARES = (0.5, 0.25, 0.25)
SPOTS = {
    2: (((0, 2), (4, 2)), ((2, 0), (2, 4)), ((0, 0), (4, 4)), ((4, 0), (0, 4))),
    3: (((2, 0), (0, 4), (4, 4)), ((0, 0), (4, 0), (2, 4))),
}
"""(column, row) of the left upper cells of two and three small things."""


@dataclass
class SceneWriter:
    """turns: whether a concept may be mirrored; letters and clocks may not. Every concept comes
    equally often: a shuffled pass over all before any repeats."""

    turns: Sequence[bool]
    rng: random.Random
    order: list[int] = field(default_factory=list)

    def layout(self) -> PictureLayout:
        kind = self.rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        first = self._thing()
        if kind == "large":
            things: tuple[PlacedThing, ...] = (first,)
        elif kind == "small":
            spot = self.rng.randint(0, GRID - SMALL), self.rng.randint(0, GRID - SMALL)
            things = (_at(first, spot),)
        elif kind == "two":
            second = replace(self._thing(), look=first.look)
            things = self._in_spots((first, second))
        else:
            count = self.rng.choice((2, 3))
            turned = replace(first, flipped=False)
            things = self._in_spots((turned,) * count)
        return PictureLayout(things, self._background(things))

    def _thing(self) -> PlacedThing:
        if not self.order:
            self.order = list(range(len(self.turns)))
            self.rng.shuffle(self.order)
        concept = self.order.pop()
        look = self.rng.choices(range(len(LOOKS)), LOOK_SHARES)[0]
        coloured = self.rng.random() < COLOUR_SHARE
        colour = self.rng.randrange(len(COLOURS)) if coloured else -1
        flipped = self.turns[concept] and self.rng.random() < FLIP_SHARE
        return PlacedThing(concept, look, colour, flipped)

    def _in_spots(self, things: tuple[PlacedThing, ...]) -> tuple[PlacedThing, ...]:
        spots = self.rng.choice(SPOTS[len(things)])
        return tuple(_at(thing, spot) for thing, spot in zip(things, spots, strict=True))

    def _background(self, things: tuple[PlacedThing, ...]) -> int:
        """Not the colour of a thing, which would not be seen."""
        if self.rng.random() < WHITE_SHARE and all(t.colour != 0 for t in things):
            return 0
        left = [c for c in range(len(COLOURS)) if all(t.colour != c for t in things)]
        return self.rng.choice(left)


def _at(thing: PlacedThing, spot: tuple[int, int]) -> PlacedThing:
    return replace(thing, large=False, column=spot[0], row=spot[1])
