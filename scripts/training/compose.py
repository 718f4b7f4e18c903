"""Sprites and the pictures composed of them: numpy only, premultiplied alpha throughout.

A sprite holds colour already multiplied by its alpha; resizing that by plain averaging is right,
while Pillow's RGBA resize would multiply once more and leave white fringes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.scene import COLOURS, GRID, LOOKS, PALETTE, PictureLayout, PlacedThing
from scripts.training.concepts import Concept, plain

RAW_SIDE = 512
FILLED = 0.94
"""Share of its cells' width that a thing fills; the rest is its margin."""
Sprite = NDArray[np.uint8]  # [side, side, 4], premultiplied
Picture = NDArray[np.uint8]  # [size, size, 4]: red, green, blue over the background, and alpha


def _svg(folder: Path) -> dict[str, bytes]:
    """Code point -> svg of an iconify package."""
    icons = json.loads((folder / "icons.json").read_text())
    chars = json.loads((folder / "chars.json").read_text())
    width, height = icons.get("width", 16), icons.get("height", 16)
    found = {}
    for code, name in chars.items():
        name = icons.get("aliases", {}).get(name, {}).get("parent", name)
        icon = icons["icons"].get(name)
        if icon is not None:
            box = f"0 0 {icon.get('width', width)} {icon.get('height', height)}"
            body = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{icon["body"]}</svg>'
            found[plain(code)] = body.encode()
    return found


def render_sprites(
    concepts: Sequence[Concept], packages: dict[str, Path], side: int = RAW_SIDE
) -> dict[tuple[int, int], bytes]:
    """PNG or WebP bytes of every (concept, look) that the packages have."""
    from resvg_py import svg_to_bytes

    vectors = {0: _svg(packages["flat"]), 1: _svg(packages["noto"])}
    webps = {plain(p.stem): p for p in (packages["3d"] / "assets").glob("*.webp")}
    found: dict[tuple[int, int], bytes] = {}
    for index, concept in enumerate(concepts):
        for look, svgs in vectors.items():
            if concept.hexcode in svgs:
                text = svgs[concept.hexcode].decode()
                found[index, look] = bytes(svg_to_bytes(svg_string=text, width=side, height=side))
        if concept.hexcode in webps:
            found[index, 2] = webps[concept.hexcode].read_bytes()
    return found


def premultiplied(data: bytes, side: int, scale: int = 1) -> Sprite:
    """The sprite at that side, cut to what it shows and fitted into FILLED of it. scale: by which
    it is larger than the one whose margin it has."""
    picture = Image.open(io.BytesIO(data)).convert("RGBA").convert("RGBa")
    inner = round(side / scale * FILLED) * scale
    picture = picture.resize((inner, inner), Image.Resampling.BOX if inner < 96 else Image.BICUBIC)
    sprite, edge = np.zeros((side, side, 4), np.uint8), (side - inner) // 2
    sprite[edge : edge + inner, edge : edge + inner] = np.asarray(picture)
    return sprite


def recoloured(sprite: Sprite, colour: int) -> Sprite:
    """In another colour: lights, shadows and what is nearly black or white stay as they are."""
    alpha = sprite[..., 3:].astype(np.float32) / 255
    rgb = sprite[..., :3] / np.maximum(alpha, 1e-3) / 255
    target = np.array(PALETTE[COLOURS[colour]], np.float32) / 255
    high, low = rgb.max(axis=2), rgb.min(axis=2)
    vivid = (high - low) / np.maximum(high, 1e-3)
    seen = sprite[..., 3] > 128
    tinted = np.clip((vivid - 0.15) / 0.2, 0, 1) * np.clip((high - 0.12) / 0.15, 0, 1)
    if tinted[seen].mean() < 0.4:  # a grey thing: all of it but its black lines takes the colour
        tinted = np.clip((high - 0.12) / 0.15, 0, 1)
    light = rgb @ np.array([0.3, 0.59, 0.11], np.float32)
    weights = tinted * seen
    middle = float((light * weights).sum() / max(1e-3, weights.sum()))
    ratio = (light / max(middle, 0.05))[..., None]
    shaded = np.where(ratio < 1, target * ratio, 1 - (1 - target) / np.maximum(ratio, 1))
    mixed = rgb + (shaded - rgb) * tinted[..., None]
    found = np.empty_like(sprite)
    found[..., :3] = (np.clip(mixed, 0, 1) * alpha * 255 + 0.5).astype(np.uint8)
    found[..., 3] = sprite[..., 3]
    return found


@dataclass
class Enlarged(Mapping[tuple[int, int], Sprite]):
    """Sprites `scale` times as large as those of a sheet, made when they are asked for: all of them
    together would take gigabytes."""

    raw: dict[tuple[int, int], bytes]
    side: int
    scale: int

    def __getitem__(self, key: tuple[int, int]) -> Sprite:
        return premultiplied(self.raw[key], self.side, self.scale)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)


@dataclass
class SpriteSheet:
    """Every sprite, large and small, at that size of pictures."""

    size: int
    large: Mapping[tuple[int, int], Sprite]
    small: Mapping[tuple[int, int], Sprite]

    @classmethod
    def make(cls, raw: dict[tuple[int, int], bytes], size: int) -> SpriteSheet:
        large, small = (
            {key: premultiplied(data, side) for key, data in raw.items()}
            for side in (size, size // 2)
        )
        return cls(size, large, small)

    @classmethod
    def enlarged(cls, raw: dict[tuple[int, int], bytes], size: int, scale: int) -> SpriteSheet:
        """For the pictures of a sheet of that size, `scale` times as large."""
        large, small = (Enlarged(raw, side * scale, scale) for side in (size, size // 2))
        return cls(size * scale, large, small)

    def has(self, concept: int, look: int) -> bool:
        return (concept, look) in self.large

    def draw(self, layout: PictureLayout) -> Picture:
        """The picture over its background, and how much each pixel belongs to a thing."""
        canvas = np.zeros((self.size, self.size, 4), np.uint16)
        canvas[..., :3] = PALETTE[COLOURS[layout.background]]
        for placed in layout.things:
            self._paste(canvas, placed)
        return canvas.astype(np.uint8)

    def _paste(self, canvas: NDArray[np.uint16], placed: PlacedThing) -> None:
        sprite = self._sprite(placed)
        side, cell = sprite.shape[0], self.size // GRID
        top, left = placed.row * cell, placed.column * cell
        part = canvas[top : top + side, left : left + side]
        alpha = sprite[..., 3:].astype(np.uint16)
        part[:] = np.minimum(255, sprite + (part * (255 - alpha) + 127) // 255)

    def _sprite(self, placed: PlacedThing) -> Sprite:
        sheet = self.large if placed.large else self.small
        look = placed.look if (placed.concept, placed.look) in sheet else 0
        sprite = sheet[placed.concept, look]
        if placed.colour >= 0:
            sprite = recoloured(sprite, placed.colour)
        return sprite[:, ::-1] if placed.flipped else sprite


__all__ = ["LOOKS", "Picture", "SpriteSheet", "premultiplied", "recoloured", "render_sprites"]
