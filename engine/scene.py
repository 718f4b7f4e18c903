"""What a picture of the embedded model shows: which things, in which look and colour, where, and
before which background. The prompt is read into a Scene; a Scene and a seed become a layout, whose
every choice is made; the network draws that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GRID = 8
"""Cells of a picture along each side."""
SMALL = 4
"""Cells that a small thing takes along each side; a large one takes all of them."""
LOOKS = ("flat", "cartoon", "3D")

PALETTE: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (16, 16, 18),
    "grey": (150, 152, 158),
    "red": (222, 55, 50),
    "orange": (247, 140, 40),
    "yellow": (252, 213, 60),
    "green": (60, 165, 80),
    "dark green": (18, 84, 52),
    "light blue": (150, 210, 245),
    "blue": (45, 105, 220),
    "dark blue": (22, 38, 105),
    "purple": (130, 70, 190),
    "pink": (250, 160, 195),
    "brown": (125, 80, 50),
    "beige": (240, 226, 196),
    "teal": (25, 150, 150),
}
"""Colours of things and of backgrounds, sRGB."""
COLOURS = tuple(PALETTE)


@dataclass(frozen=True, slots=True)
class PlacedThing:
    """One thing of a picture. concept: its row in the model's list. look: its row in LOOKS.
    colour: its row in COLOURS, -1 for the thing's own. flipped: mirrored left to right. column,
    row: of its left upper cell; a large thing has 0 and 0."""

    concept: int
    look: int = 0
    colour: int = -1
    flipped: bool = False
    large: bool = True
    column: int = 0
    row: int = 0

    @property
    def cells(self) -> int:
        """Along each of its sides."""
        return GRID if self.large else SMALL


@dataclass(frozen=True, slots=True)
class PictureLayout:
    """A picture, decided whole; later things lie before earlier ones. background: row in COLOURS,
    -1 where an edit leaves it as it is."""

    things: tuple[PlacedThing, ...]
    background: int = 0


RELATIONS = ("", "anyhow", "left", "right", "above", "below")


@dataclass(frozen=True, slots=True)
class SceneCodes:
    """What a prompt asks for, in numbers. things: (concept, colour, count) each, colour -1 for its
    own. background, look: -1 where nothing is said. relation: how the second thing stands to the
    first. place: (column, row), 0 to 2 each, of a single thing."""

    things: tuple[tuple[int, int, int], ...]
    background: int = -1
    look: int = -1
    relation: str = ""
    place: tuple[int, int] | None = None
    small: bool = False

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As tensors of a conditioning: int64 [things, 3] and [6]."""
        column, row = self.place or (-1, -1)
        relation = RELATIONS.index(self.relation)
        told = [self.background, self.look, relation, column, row, int(self.small)]
        return {"things": np.array(self.things, np.int64), "scene": np.array(told, np.int64)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> SceneCodes:
        """Of what `arrays` gave."""
        background, look, relation, column, row, small = arrays["scene"].tolist()
        things = tuple((c, colour, count) for c, colour, count in arrays["things"].tolist())
        place = None if column < 0 else (column, row)
        return cls(things, background, look, RELATIONS[relation], place, bool(small))
