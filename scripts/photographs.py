"""Photographs that scikit-image and scikit-learn carry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import skimage
import sklearn.datasets
from PIL import Image

from engine.render import Pixels


def photographs(of_skimage: tuple[str, ...], of_sklearn: tuple[str, ...]) -> list[Image.Image]:
    """Those that come with the packages."""
    folders = (
        Path(skimage.__file__).parent / "data",
        Path(sklearn.datasets.__file__).parent / "images",
    )
    names = (of_skimage, of_sklearn)
    paths = [folder / name for folder, some in zip(folders, names, strict=True) for name in some]
    return [Image.open(path).convert("RGB") for path in paths]


def crops(pictures: list[Image.Image], each: int, seed: int) -> Iterator[Pixels]:
    """Squares out of them, uint8 [128, 128, 3], from a seventh of the shorter side on."""
    random = np.random.default_rng(seed)
    for picture in pictures:
        for _ in range(each):
            side = int(random.uniform(0.15, 1) * min(picture.size))
            left, top = (int(random.integers(0, length - side + 1)) for length in picture.size)
            box = (left, top, left + side, top + side)
            yield np.asarray(picture.resize((128, 128), Image.Resampling.BILINEAR, box=box))
