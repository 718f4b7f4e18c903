"""Do more passes make a better edit? Parts of reference pictures, drawn anew by their own words."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np

from engine.decoders.masked import DEFAULT_WEIGHTS
from engine.prompt_encoder import PromptText
from engine.region import Region
from engine.text import TextEncoder
from engine.weights import WeightsFolder
from scripts.edits.measure import veil
from scripts.edits.pictures import part
from scripts.edits.studio import Drawn, Studio
from scripts.eval import gallery
from scripts.training.captions import with_article

PASSES = (1, 2, 3, 4, 6, 8, 12)
PARTS = ("corner", "middle", "right", "bottom")
PICTURES = 48


def table(studio: Studio, encoder: TextEncoder) -> str:
    """Mean absolute difference, 0..255, from the reference within the part, by share and passes."""
    weights = WeightsFolder.open(DEFAULT_WEIGHTS)
    names, references = weights.field("concepts"), gallery(weights)
    found: dict[tuple[float, int], list[float]] = defaultdict(list)
    for turn, chosen in enumerate(random.Random(1).sample(range(len(names)), PICTURES)):
        redraw = part(PARTS[turn % len(PARTS)], studio.can.grid)
        (told,) = encoder.encode([PromptText(with_article(names[chosen]))])
        before = Drawn(references[chosen], b"", 0, 0.0)
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
