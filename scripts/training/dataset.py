"""Everything the training reads, made once and kept in the cache folder."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.models.codec import Codec
from engine.prompt_encoder import PromptText
from engine.render import Conditioning
from engine.tensors import to_torch
from scripts.training import captions, concepts, sources
from scripts.training.captions import Placed, Scene
from scripts.training.compose import SpriteSheet, render_sprites
from scripts.training.concepts import Concept
from scripts.training.editions import Edition

PARAPHRASES = Path(__file__).parent / "paraphrases.txt"


@dataclass(frozen=True)
class Pictures:
    """pixels: uint8 [N, size, size, 3] (memory-mapped); scenes say what they show."""

    concepts: list[Concept]
    sprites: SpriteSheet
    scenes: list[Scene]
    pixels: NDArray[np.uint8]

    def reference(self, concept: int) -> NDArray[np.uint8]:
        """The concept alone, large, flat, on white: what the gallery shows."""
        return self.sprites.draw(Scene("", "white", (Placed(concept, "flat"),)))


def prepare(edition: Edition, cache: Path) -> Pictures:
    """Fetch, render and compose; the composed pictures are kept in the cache."""
    packages = sources.fetch(cache)
    held_out = captions.held_out_words(PARAPHRASES)
    found = concepts.load(packages, not edition.scenes, lambda w: captions.mentions(w, held_out))
    size = edition.codec.size
    sprites = SpriteSheet.make(render_sprites(found, packages), size)
    writer = captions.CaptionWriter(found, edition.scenes, random.Random(edition.seed))
    scenes = [writer.scene() for _ in range(edition.pictures)]
    for scene in scenes:
        if captions.mentions(scene.caption, held_out):
            raise SystemExit(f"a held-out word is in the caption {scene.caption!r}")
    path = cache / edition.name / "pictures.npy"
    if not path.exists():
        _compose(path, sprites, scenes)
    return Pictures(found, sprites, scenes, np.load(path, mmap_mode="r"))


def _compose(path: Path, sprites: SpriteSheet, scenes: Sequence[Scene]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(scenes), sprites.size, sprites.size, 3)
    part = path.with_suffix(".part")
    pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    for index, scene in enumerate(scenes):
        pixels[index] = sprites.draw(scene)
        if index % 10_000 == 0:
            print(f"pictures {index}/{len(scenes)}", flush=True)
    pixels.flush()
    part.rename(path)


def as_input(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, H, W, 3] -> float [B, 3, H, W] in [-1, 1]."""
    tensor = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)
    return tensor.float() / 127.5 - 1


def encoded(codec: Codec, pixels: NDArray[np.uint8], device: torch.device, cache: Path) -> Tensor:
    """Codes of every picture, uint8 [N, cells, channels]; kept in the cache with the encoder's
    checksum, so that only another encoder makes them again."""
    path = cache / "codes.pt"
    key = [float(p.double().abs().sum()) for p in codec.encoder.parameters()]
    stored = torch.load(path, weights_only=True) if path.exists() else None
    if stored is None or stored["key"] != key or len(stored["codes"]) != len(pixels):
        stored = {"key": key, "codes": _encode_all(codec, pixels, device)}
        torch.save(stored, path)
    return cast(Tensor, stored["codes"])


@torch.inference_mode()
def _encode_all(codec: Codec, pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """In float32, as scoring encodes."""
    return torch.cat(
        [
            codec.encode(as_input(pixels[i : i + 256]).to(device)).cpu()
            for i in range(0, len(pixels), 256)
        ]
    )


@dataclass(frozen=True)
class Captions:
    """Text of every picture: row `index[i]` of tokens [D, S, 384] and pooled [D, 384], float16."""

    index: Tensor
    tokens: Tensor
    pooled: Tensor


def encode_captions(scenes: Sequence[Scene], cache: Path, length: int) -> Captions:
    """Each distinct caption through the text encoder once, kept in the cache."""
    texts = sorted({scene.caption for scene in scenes})
    rows = {text: row for row, text in enumerate(texts)}
    path = cache / "captions.pt"
    stored = torch.load(path, weights_only=True, mmap=True) if path.exists() else None
    if stored is None or stored["texts"] != json.dumps(texts):
        encoded = list(_encode(texts))
        tokens = torch.stack([padded(c, length) for c in encoded])
        pooled = torch.stack([to_torch(c.tensors["pooled"]) for c in encoded])
        stored = {"texts": json.dumps(texts), "tokens": tokens, "pooled": pooled}
        torch.save(stored, path)
    index = torch.tensor([rows[scene.caption] for scene in scenes])
    return Captions(index, stored["tokens"], stored["pooled"])


def padded(conditioning: Conditioning, length: int) -> Tensor:
    """Hidden states as float16 [length, 384], zeros behind the prompt."""
    kept = to_torch(conditioning.tensors["tokens"])[:length]
    tokens = torch.zeros(length, kept.shape[1], dtype=torch.float16)
    tokens[: len(kept)] = kept
    return tokens


def _encode(texts: Sequence[str]) -> Iterator[Conditioning]:
    from engine.text import TextEncoder

    encoder = TextEncoder()
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found: dict[int, Conditioning] = {}
    for start in range(0, len(texts), 128):
        rows = by_length[start : start + 128]
        found.update(zip(rows, encoder.encode([PromptText(texts[i]) for i in rows]), strict=True))
        if start % 2560 == 0:
            print(f"captions {start}/{len(texts)}", flush=True)
    return (found[i] for i in range(len(texts)))
