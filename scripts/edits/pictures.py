"""A sheet of edits for a person to look at. And whether more passes make a better edit: parts of
reference pictures, drawn anew by their own words."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from PIL import Image

from engine.capabilities import DEFAULT_WEIGHTS
from engine.picture import blend
from engine.prompt_encoder import PromptText
from engine.region import Region, scattered
from engine.render import Conditioning, Pixels
from engine.scene_encoder import SceneEncoder
from engine.weights import WeightsFolder
from scripts.edits.measure import Drawn, Studio, veil
from scripts.evaluation.references import References
from scripts.sheet import contact_sheet
from scripts.training.words import with_article

EDITS = (
    ("a penguin", "top", "a frog"),
    ("a house", "top", "a birthday cake"),
    ("a crown", "bottom", "a cat"),
    ("a snowman", "top", "a penguin"),
    ("a koala on a yellow background", "right", "a koala on a blue background"),
    ("a red apple", "corner", "a green apple"),
)
"""What is there, which part of it is drawn anew, and by which words."""
PASSES = (1, 2, 3, 4, 6, 8, 12)
PARTS = ("corner", "middle", "right", "bottom")
PICTURES = 48
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


def sheet(studio: Studio, encoder: SceneEncoder) -> Image.Image:
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
        then = studio.edit(first, redraw, prompts[after], seed=4, strength=strength)
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


def quality(studio: Studio, encoder: SceneEncoder) -> str:
    """Mean absolute difference, 0..255, from the reference within the part, by share and passes."""
    references = References.load(WeightsFolder.open(DEFAULT_WEIGHTS))
    names = references.names
    found: dict[tuple[float, int], list[float]] = defaultdict(list)
    for turn, chosen in enumerate(random.Random(1).sample(range(len(names)), PICTURES)):
        redraw = part(PARTS[turn % len(PARTS)], studio.can.grid)
        (told,) = encoder.encode([PromptText(with_article(names[chosen]))])
        before = Drawn(references.on_white(chosen), b"", 0, 0.0)
        for passes in PASSES:
            after = studio.edit(before, redraw, told, 5, stored=False, passes=passes)
            found[redraw.mean(), passes].append(_apart(before, after, redraw, studio.can.grid))
    lines = [f"{'passes':12}" + "".join(f"{passes:>7}" for passes in PASSES)]
    for share in sorted({share for share, _ in found}):
        means = (float(np.mean(found[share, passes])) for passes in PASSES)
        lines.append(f"{share:<12.0%}" + "".join(f"{mean:>7.2f}" for mean in means))
    return "\n".join(lines)


def _apart(before: Drawn, after: Drawn, redraw: Region, grid: tuple[int, int]) -> float:
    inside = veil(redraw, grid, len(before.pixels)) == 0
    return float(np.abs(before.pixels.astype(float) - after.pixels)[inside].mean())
