"""What the model should have drawn: the sprites of every concept, from the gallery that is shipped
with the weights, and how near a drawing is to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.models.codec import Codec, CodecConfig
from engine.render import Pixels
from engine.scene import LOOKS
from engine.weights import WeightsFolder

LIKE = 24
"""Pixels along each side in which drawings are compared."""


def as_tensor(pictures: Sequence[Pixels]) -> Tensor:
    """uint8 [H, W, 3] each -> float [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class References:
    """sprites: uint8 [concepts, looks, side, side, 4], straight alpha."""

    names: tuple[str, ...]
    sprites: NDArray[np.uint8]
    codec: Codec

    @classmethod
    def load(cls, weights: WeightsFolder) -> References:
        entry, names = weights.field("gallery"), tuple(weights.field("concepts"))
        with Image.open(weights.path / entry["file"]) as opened:
            sheet = np.asarray(opened.convert("RGBA"))
        side, columns = entry["side"], entry["columns"]
        rows = sheet.reshape(-1, side, columns, side, 4).swapaxes(1, 2).reshape(-1, side, side, 4)
        codec = Codec(weights.config(CodecConfig, "codec"))
        weights.fill(codec, "codec")
        count = len(names) * len(LOOKS)
        sprites = rows[:count].reshape(len(names), len(LOOKS), side, side, 4)
        return cls(names, sprites, codec.eval())

    def on_white(self, concept: int, look: int = 0) -> Pixels:
        """At the size of the model's pictures."""
        size = self.codec.config.size
        sprite = Image.fromarray(self.sprites[concept, look]).resize((size, size))
        white = Image.new("RGBA", (size, size), "white")
        return np.asarray(Image.alpha_composite(white, sprite).convert("RGB"))

    @cached_property
    def _pictures(self) -> list[Pixels]:
        """Every concept in every look, then the same mirrored."""
        plain = [self.on_white(c, look) for c in range(len(self.names)) for look in range(3)]
        return [*plain, *(np.ascontiguousarray(picture[:, ::-1]) for picture in plain)]

    @cached_property
    def _by_pixels(self) -> Tensor:
        return pixel_features(self._pictures)

    @cached_property
    def _by_codec(self) -> Tensor:
        return codec_features(self.codec, self._pictures)

    def ranks(
        self, drawn: Sequence[Pixels], wanted: Sequence[Sequence[int]], by: str
    ) -> NDArray[np.int64]:
        """How many other concepts are nearer than the nearest wanted one, for each drawing; a
        concept is as near as its nearest look, mirrored or not. by: "pixels" or "features"."""
        references = self._by_pixels if by == "pixels" else self._by_codec
        own = pixel_features(drawn) if by == "pixels" else codec_features(self.codec, drawn)
        mean = references.mean(dim=0)
        near = F.normalize(own - mean, dim=1) @ F.normalize(references - mean, dim=1).T
        best = near.view(len(drawn), 2, len(self.names), 3).amax(dim=(1, 3))
        found = []
        for row, allowed in zip(best, wanted, strict=True):
            others = torch.ones(len(row), dtype=torch.bool)
            others[list(allowed)] = False
            found.append(int((row[others] > row[list(allowed)].max()).sum()))
        return np.array(found)


def pixel_features(pictures: Sequence[Pixels]) -> Tensor:
    """[B, 3 * LIKE * LIKE], pictures made smaller: knows nothing of our codec."""
    return F.interpolate(as_tensor(pictures), size=(LIKE, LIKE), mode="area").flatten(1)


@torch.inference_mode()
def codec_features(codec: Codec, pictures: Sequence[Pixels]) -> Tensor:
    """[B, cells * channels], the encoder's latents: flattering, for they are the model's own."""
    parts = [pictures[at : at + 128] for at in range(0, len(pictures), 128)]
    return torch.cat([codec.encoder(as_tensor(part)).tanh().flatten(1) for part in parts])
