"""Sprites and the pictures composed of them: numpy only, premultiplied alpha throughout.

A sprite holds colour already multiplied by its alpha; resizing that by plain averaging is right,
while Pillow's RGBA resize would multiply once more and leave white fringes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.training.captions import BACKGROUNDS, Placed, Scene
from scripts.training.concepts import Concept, plain

LARGE, SMALL, MARGIN = 84 / 96, 46 / 96, 2 / 96
STYLES = ("flat", "noto", "3d")
Sprite = NDArray[np.uint8]  # [side, side, 4], premultiplied


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


def _premultiplied(data: bytes, side: int) -> Sprite:
    picture = Image.open(io.BytesIO(data)).convert("RGBA").convert("RGBa")
    picture = picture.resize((side, side), Image.Resampling.BOX if side < 96 else Image.BICUBIC)
    return np.asarray(picture).reshape(side, side, 4).copy()


def render_sprites(
    concepts: Sequence[Concept], packages: dict[str, Path], side: int = 256
) -> dict[tuple[int, str], bytes]:
    """PNG or WebP bytes of every (concept, style) that the packages have."""
    from resvg_py import svg_to_bytes

    vectors = {"flat": _svg(packages["flat"]), "noto": _svg(packages["noto"])}
    webps = {plain(p.stem): p for p in (packages["3d"] / "assets").glob("*.webp")}
    found: dict[tuple[int, str], bytes] = {}
    for index, concept in enumerate(concepts):
        for style, svgs in vectors.items():
            if concept.hexcode in svgs:
                text = svgs[concept.hexcode].decode()
                png = svg_to_bytes(svg_string=text, width=side, height=side)
                found[index, style] = bytes(png)
        if concept.hexcode in webps:
            found[index, "3d"] = webps[concept.hexcode].read_bytes()
    return found


@dataclass
class SpriteSheet:
    """Every sprite at both sides it is drawn in."""

    size: int
    large: dict[tuple[int, str], Sprite]
    small: dict[tuple[int, str], Sprite]

    @classmethod
    def make(cls, raw: dict[tuple[int, str], bytes], size: int) -> SpriteSheet:
        sides = (round(LARGE * size), round(SMALL * size))
        large, small = ({k: _premultiplied(v, side) for k, v in raw.items()} for side in sides)
        return cls(size, large, small)

    def draw(self, scene: Scene) -> NDArray[np.uint8]:
        """The picture, uint8 [size, size, 3]."""
        canvas = np.empty((self.size, self.size, 3), np.uint16)
        canvas[:] = BACKGROUNDS[scene.background]
        for placed in scene.objects:
            self._paste(canvas, placed)
        return canvas.astype(np.uint8)

    def _paste(self, canvas: NDArray[np.uint16], placed: Placed) -> None:
        sheet = self.small if placed.small else self.large
        sprite = sheet.get((placed.concept, placed.style))
        sprite = sheet[placed.concept, "flat"] if sprite is None else sprite
        side, margin = sprite.shape[0], round(MARGIN * self.size)
        room = self.size - side
        stops = (margin, room // 2, room - margin)
        left, top = (stops[placed.column], stops[placed.row])
        part = canvas[top : top + side, left : left + side]
        alpha = sprite[..., 3:].astype(np.uint16)
        part[:] = np.minimum(255, sprite[..., :3] + (part * (255 - alpha) + 127) // 255)
