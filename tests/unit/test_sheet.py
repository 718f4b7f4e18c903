"""What people are shown: every picture in its place, every label inside its cell."""

from __future__ import annotations

import pytest
from PIL import Image

from scripts.sheet import CELL, GAP, LABEL, PAPER, contact_sheet, strip

RED, BLUE = (200, 0, 0), (0, 0, 200)


def square(colour: tuple[int, int, int], side: int = 64) -> Image.Image:
    return Image.new("RGB", (side, side), colour)


@pytest.mark.parametrize(("pictures", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (4, 3, 2)])
def test_a_sheet_has_room_for_all(pictures: int, columns: int, rows: int) -> None:
    sheet = contact_sheet([("a fox", square(RED))] * pictures)
    assert sheet.size == (GAP + columns * (CELL + GAP), GAP + rows * (CELL + LABEL + GAP))


def test_pictures_come_in_reading_order() -> None:
    colours = [RED, RED, BLUE, BLUE]
    sheet = contact_sheet([("", square(colour)) for colour in colours], columns=2)
    middle = [GAP + CELL // 2, GAP + CELL + GAP + CELL // 2]
    rows = [GAP + CELL // 2, GAP + CELL + LABEL + GAP + CELL // 2]
    assert [sheet.getpixel((x, y)) for y in rows for x in middle] == colours


def test_a_long_label_stays_inside_its_cell() -> None:
    sheet = contact_sheet([("a very long prompt " * 20, square(RED))])
    margin = sheet.crop((0, CELL + GAP, GAP, sheet.height))
    assert margin.getcolors() == [(margin.width * margin.height, PAPER)]


def test_a_strip_is_one_row() -> None:
    row = strip([square(RED), square(BLUE)])
    assert row.size == (GAP + 2 * (CELL + GAP), CELL + 2 * GAP)
    assert row.getpixel((GAP + CELL + GAP + CELL // 2, CELL // 2)) == BLUE
