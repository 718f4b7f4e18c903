"""Which cells a changed prompt draws anew: whole things and whole backgrounds."""

from __future__ import annotations

import numpy as np

from engine.scene import GRID, PictureLayout, PlacedThing
from engine.scene_changes import Planes, changed_cells

EDGE = 4
"""Pixels of a cell along each side, here."""
LEFT, RIGHT = np.s_[2:6, 0:3], np.s_[2:6, 5:8]
"""Cells of two things."""
PAIR = PictureLayout(
    (PlacedThing(0, large=False, row=2), PlacedThing(1, large=False, column=4, row=2)), -1
)
RED, GREEN, WHITE, BLUE = (1.0, 0.1, 0.1), (0.1, 0.8, 0.1), (1.0, 1.0, 1.0), (0.1, 0.2, 0.9)
Rows = tuple[slice, slice]
Colour = tuple[float, float, float]


def picture(background: Colour, *things: tuple[Rows, Colour]) -> Planes:
    cells = np.zeros((GRID, GRID, 4), np.float32)
    cells[..., :3] = background
    for where, colour in things:
        cells[where] = (*colour, 1.0)
    return cells.repeat(EDGE, axis=0).repeat(EDGE, axis=1)


def region(*where: Rows) -> list[list[bool]]:
    cells = np.zeros((GRID, GRID), np.bool_)
    for one in where:
        cells[one] = True
    return cells.tolist()


def changed(before: Planes, after: Planes, layout: PictureLayout) -> list[list[bool]]:
    return changed_cells(before, after, layout).reshape(GRID, GRID).tolist()


def test_the_same_picture_keeps_all_of_it() -> None:
    same = picture(WHITE, (LEFT, RED), (RIGHT, RED))
    assert changed(same, same, PAIR) == region()


def test_a_thing_that_differs_is_drawn_anew_whole_and_the_other_kept() -> None:
    before = picture(WHITE, (LEFT, RED), (RIGHT, RED))
    assert changed(before, picture(WHITE, (LEFT, RED), (RIGHT, GREEN)), PAIR) == region(RIGHT)
    larger = np.s_[2:6, 4:8]
    grown = picture(WHITE, (LEFT, RED), (larger, GREEN))
    assert changed(before, grown, PAIR) == region(larger), "where it was and where it is to be"


def test_a_background_that_differs_is_drawn_anew_around_what_stays() -> None:
    before, after = picture(WHITE, (LEFT, RED)), picture(BLUE, (LEFT, RED))
    around = (~np.array(region(LEFT))).tolist()
    assert changed(before, after, PictureLayout(PAIR.things[:1], 9)) == around
    assert changed(before, after, PictureLayout(PAIR.things[:1], -1)) == region(), (
        "is left as it is"
    )


def test_a_cell_is_kept_that_shows_a_background_which_stays() -> None:
    everywhere, layout = np.s_[0:8, 0:8], PictureLayout((PlacedThing(0),), -1)
    before, after = (picture(BLUE, (everywhere, colour)) for colour in (RED, GREEN))
    before[:3, :3] = after[:3, :3] = (*BLUE, 0.0)
    corner = np.s_[0:1, 0:1]
    assert changed(before, after, layout) == (~np.array(region(corner))).tolist()


def test_what_stands_where_nothing_is_to_stand_goes() -> None:
    before = picture(WHITE, (LEFT, RED), (RIGHT, RED))
    alone = PictureLayout(PAIR.things[:1], -1)
    assert changed(before, picture(WHITE, (LEFT, RED)), alone) == region(RIGHT)
