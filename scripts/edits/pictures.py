"""A sheet of edits for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from engine.picture import blend
from engine.prompt_encoder import PromptText
from engine.region import Region, scattered
from engine.render import Conditioning, Pixels
from engine.text import TextEncoder
from scripts.edits.measure import veil
from scripts.edits.studio import Studio
from scripts.sheet import contact_sheet

EDITS = (
    ("a penguin", "top", "a frog"),
    ("a house", "top", "a birthday cake"),
    ("a crown", "bottom", "a cat"),
    ("a snowman", "top", "a penguin"),
    ("a koala on a yellow background", "right", "a koala on a blue background"),
    ("a red apple", "corner", "a green apple"),
)
"""What is there, which part of it is drawn anew, and by which words."""
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def sheet(studio: Studio, encoder: TextEncoder) -> Image.Image:
    """Two edits a row, each as before, what is drawn anew, after; then a row of strengths."""
    told = dict.fromkeys([words for before, _, after in EDITS for words in (before, after)])
    prompts = dict(zip(told, encoder.encode([*map(PromptText, told)]), strict=True))
    shown = [*_edits(studio, prompts), *_strengths(studio, prompts, "a penguin", "a frog")]
    return contact_sheet([(label, Image.fromarray(picture)) for label, picture in shown], columns=6)


def _edits(studio: Studio, prompts: dict[str, Conditioning]) -> Iterator[tuple[str, Pixels]]:
    side = studio.can.picture_size[0]
    for before, name, after in EDITS:
        redraw = part(name, studio.can.grid)
        first = studio.draw(prompts[before], seed=1)
        then = studio.edit(first, redraw, prompts[after], seed=2)
        canvas = np.dstack([first.pixels, veil(redraw, studio.can.grid, side)])
        yield before, first.pixels
        yield f"drawn anew: {redraw.mean():.0%}", blend(first.pixels // 4 + 140, canvas)
        yield f"{after}, {then.passes} passes", blend(then.pixels, canvas)


def _strengths(
    studio: Studio, prompts: dict[str, Conditioning], before: str, after: str
) -> Iterator[tuple[str, Pixels]]:
    first = studio.draw(prompts[before], seed=1)
    yield before, first.pixels
    for strength in STRENGTHS:
        redraw = scattered(studio.can.cells, strength, seed=4)
        then = studio.edit(first, redraw, prompts[after], seed=4)
        yield f"{after}, strength {strength}", then.pixels


def part(name: str, grid: tuple[int, int]) -> Region:
    """A part of the grid by its name."""
    columns, rows = grid
    y, x = np.mgrid[0:rows, 0:columns]
    parts = {
        "top": y < rows // 2,
        "bottom": y >= rows // 2,
        "right": x >= columns // 2,
        "middle": (abs(y - rows // 2 + 0.5) < rows // 4)
        & (abs(x - columns // 2 + 0.5) < columns // 4),
        "corner": (y >= rows // 2) & (x >= columns // 2),
    }
    return np.asarray(parts[name]).reshape(-1)
