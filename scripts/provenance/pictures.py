"""Pictures to mark: drawn by the embedded model, and cut out of photographs that packages ship."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from engine.capabilities import capabilities
from engine.decoders.masked import MaskedDecoder
from engine.picture import resize
from engine.prompt_encoder import PromptText
from engine.render import Pixels
from engine.scene_encoder import SceneEncoder
from scripts.edits.measure import Studio

SIDE = 512
CONCEPTS = Path(__file__).resolve().parents[1] / "training" / "concepts.txt"
BACKGROUNDS = ("", " on a blue background", " on a yellow background", " on a red background")
PHOTOGRAPHS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": tuple(
        f"data/{name}"
        for name in (
            *("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
            *("hubble_deep_field.jpg", "retina.jpg", "ihc.png", "moon.png", "coins.png"),
            *("brick.png", "grass.png", "gravel.png", "camera.png"),
        )
    ),
}


def drawn(count: int) -> list[Pixels]:
    """By the embedded model, one concept each, a quarter on each background."""
    lines = (line.partition("=")[0].strip() for line in CONCEPTS.read_text().splitlines())
    concepts = [line for line in lines if line and not line.startswith(("#", "["))]
    order = np.random.default_rng(0).permutation(len(concepts))
    names = [concepts[order[n % len(order)]] for n in range(count)]
    prompts = [name + BACKGROUNDS[n % 4] for n, name in enumerate(names)]
    told = SceneEncoder().encode([*map(PromptText, prompts)])
    studio = Studio(MaskedDecoder(threads=1, dtype="float32"), capabilities("masked", {}))
    return [resize(studio.draw(one, seed).pixels, SIDE, SIDE) for seed, one in enumerate(told)]


def photographs(count: int, seed: int) -> Iterator[Pixels]:
    """Square parts of real photographs, of half their height and more, at our size."""
    numbers, whole = (
        np.random.default_rng(seed),
        [Image.open(path).convert("RGB") for path in _files()],
    )
    for n in range(count):
        photo = whole[n % len(whole)]
        side = int(min(photo.size) * numbers.uniform(0.5, 1))
        left, top = (int(numbers.integers(0, edge - side + 1)) for edge in photo.size)
        part = photo.crop((left, top, left + side, top + side))
        yield np.asarray(part.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _files() -> list[Path]:
    found = []
    for package, names in PHOTOGRAPHS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{package} is not installed: make setup")
        found += [Path(spec.origin).parent / name for name in names]
    return found
