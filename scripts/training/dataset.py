"""Everything the training reads, made once and kept in the cache folder."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.codec import Codec
from engine.remembering import Bank
from engine.scene import GRID, LOOKS, SMALL, PictureLayout, PlacedThing
from scripts.training import concepts, sources, words
from scripts.training.compose import SpriteSheet, render_sprites
from scripts.training.concepts import Concept
from scripts.training.editions import Edition
from scripts.training.scenes import SceneWriter

PARAPHRASES = Path(__file__).resolve().parents[1] / "probes" / "paraphrases.txt"


@dataclass(frozen=True)
class Pictures:
    """pixels: uint8 [N, size, size, 4] (memory-mapped), as SpriteSheet.draw gives them; layouts say
    what they show."""

    concepts: list[Concept]
    sprites: SpriteSheet
    layouts: list[PictureLayout]
    pixels: NDArray[np.uint8]


def prepare(edition: Edition, cache: Path) -> Pictures:
    """Fetch, render and compose; what that gives is kept in the cache."""
    packages = sources.fetch(cache)
    found = load_concepts(packages)
    sprites = SpriteSheet.make(rendered(found, packages, cache), edition.codec.size)
    writer = SceneWriter([concept.turns for concept in found], random.Random(edition.seed))
    layouts = [writer.layout() for _ in range(edition.pictures)]
    path = cache / edition.name / "pictures.npy"
    if not path.exists():
        compose(path, sprites, layouts)
    return Pictures(found, sprites, layouts, np.load(path, mmap_mode="r"))


def load_concepts(packages: dict[str, Path]) -> list[Concept]:
    """All of them, without the synonyms that the probes ask for."""
    held_out = words.held_out_words(PARAPHRASES)
    return concepts.load(packages, lambda w: words.mentions(w, held_out))


def rendered(
    found: Sequence[Concept], packages: dict[str, Path], cache: Path
) -> dict[tuple[int, int], bytes]:
    """Of render_sprites; in a file of our own making, for it takes a minute."""
    path, names = cache / "sprites.npz", [concept.hexcode for concept in found]
    if path.exists():
        with np.load(path) as stored:
            if list(stored["names"]) == names:
                keys = [name for name in stored.files if name != "names"]
                return {_key(name): stored[name].tobytes() for name in keys}
    sprites = render_sprites(found, packages)
    arrays = {f"{c}-{look}": np.frombuffer(data, np.uint8) for (c, look), data in sprites.items()}
    np.savez(path, names=np.array(names), **arrays)
    return sprites


def _key(name: str) -> tuple[int, int]:
    concept, look = name.split("-")
    return int(concept), int(look)


def compose(path: Path, sprites: SpriteSheet, layouts: Sequence[PictureLayout]) -> None:
    """Draws them into an .npy file, uint8 [N, size, size, 4]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(layouts), sprites.size, sprites.size, 4)
    part = path.with_suffix(".part")
    pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    for index, layout in enumerate(layouts):
        pixels[index] = sprites.draw(layout)
        if index % 10_000 == 0:
            print(f"pictures {index}/{len(layouts)}", flush=True)
    pixels.flush()
    part.rename(path)


def as_input(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, planes] -> float [B, planes, H, W] in [-1, 1]."""
    tensor = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    return tensor.float() / 127.5 - 1


def encoded(codec: Codec, pixels: NDArray[np.uint8], device: torch.device, cache: Path) -> Tensor:
    """Codes of every picture, uint8 [N, cells, channels]; kept in the cache with the encoder's
    checksum, so that only another encoder makes them again."""
    path = cache / "codes.pt"
    key = [float(p.double().abs().sum()) for p in codec.encoder.parameters()]
    stored = torch.load(path, weights_only=True) if path.exists() else None
    if stored is None or stored["key"] != key or len(stored["codes"]) != len(pixels):
        stored = {"key": key, "codes": encode_all(codec, pixels, device)}
        torch.save(stored, path)
    return cast(Tensor, stored["codes"])


@torch.inference_mode()
def encode_all(codec: Codec, pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """In float32, as scoring encodes. pixels [N, H, W, 3 or 4], alpha is not looked at."""
    return torch.cat(
        [
            codec.encode(as_input(pixels[i : i + 128, ..., :3]).to(device)).cpu()
            for i in range(0, len(pixels), 128)
        ]
    )


def encode_memory(codec: Codec, pictures: Pictures) -> Bank:
    """What the model remembers of every thing: its codes in each look on white. A look that has no
    sprite is the flat one."""
    edge, count = (GRID - SMALL) // 2, len(pictures.concepts)
    near = [PlacedThing(c, look) for c in range(count) for look in range(len(LOOKS))]
    far = [PlacedThing(p.concept, p.look, large=False, column=edge, row=edge) for p in near]
    device = next(codec.parameters()).device
    banks = []
    for placed in (near, far):
        pixels = np.stack([pictures.sprites.draw(PictureLayout((one,))) for one in placed])
        codes = encode_all(codec, pixels, device)
        banks.append(codes.view(count, len(LOOKS), GRID, GRID, codes.shape[2]))
    inner = slice(edge, edge + SMALL)
    turns = tuple(concept.turns for concept in pictures.concepts)
    return Bank(banks[0], banks[1][:, :, inner, inner].contiguous(), turns)
