"""`python -m scripts.grid`: draws docs/images/grid.webp, which README.md shows.

What the embedded model makes of these prompts, each with the same seed, enlarged as users see it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from engine.capabilities import DEFAULT_WEIGHTS
from engine.enlarger import Enlarger
from scripts.artist import Artist
from scripts.sheet import PAPER

GRID = Path(__file__).resolve().parents[1] / "docs" / "images" / "grid.webp"
PROMPTS = (
    "a red fox", "a penguin on ice, 3D", "a koala on a yellow background", "a purple rocket",
    "a slice of pizza", "three hearts", "a cactus on a pink background", "a parrot, cartoon",
    "a sailing boat", "an octopus on a blue background", "a castle, 3D", "an owl and a moon",
    "a guitar", "a pink elephant", "two dogs", "a whale on a teal background",
    "a bicycle", "a robot, cartoon", "a rainbow above a house", "a green frog",
    "a crown on a purple background", "a sunflower", "a fire engine, 3D", "a birthday cake",
)  # fmt: skip
COLUMNS, SIDE, GAP = 8, 140, 6


def grid(pictures: list[Image.Image]) -> Image.Image:
    """In rows, without labels."""
    rows, step = -(-len(pictures) // COLUMNS), SIDE + GAP
    sheet = Image.new("RGB", (COLUMNS * step + GAP, rows * step + GAP), PAPER)
    for place, picture in enumerate(pictures):
        row, column = divmod(place, COLUMNS)
        small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(small, (GAP + column * step, GAP + row * step))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=GRID)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    artist, enlarger = Artist(options.passes, options.guidance), Enlarger.load(DEFAULT_WEIGHTS)
    drawn = [enlarger.enlarge(artist.draw(prompt, options.seed)[0]) for prompt in PROMPTS]
    grid([Image.fromarray(picture) for picture in drawn]).save(options.out, quality=85, method=6)
    print(options.out)


if __name__ == "__main__":
    main()
