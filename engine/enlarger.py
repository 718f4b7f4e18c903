"""Enlarges drawn pictures by a small trained network, see engine/models/enlarger.py. In numpy, as
what finishes pictures runs in processes that load no tensor library (docs/decisions/0102)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.picture import resize
from engine.render import Pixels, TensorBytes
from engine.winograd import TILE, Floats, bordered, convolved, strips, transformed

PART = "enlarger"
CELL = 2
"""Pixels along a side of what its convolutions see."""
_TAIL = "tail"


class EnlargerUnusable(ValueError):
    """The weights of an enlarger are missing or wrong: the message names file and field."""


@dataclass(frozen=True)
class Enlarger:
    """side: of the square pictures that it takes, in pixels. factor: by which they grow. weights,
    biases: of the convolutions by name, as `transformed` makes them, and [outputs]."""

    side: int
    factor: int
    blocks: int
    weights: Mapping[str, Floats]
    biases: Mapping[str, Floats]

    @classmethod
    def load(cls, folder: Path) -> Enlarger:
        """Of a weights folder with an enlarger. EnlargerUnusable."""
        config, sha256 = _entries(folder)
        path = folder / f"{PART}.safetensors"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EnlargerUnusable(f"{path}: {error.strerror}; copy it again") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise EnlargerUnusable(f"{path}: is not the file that model.json names; copy it again")
        tensors = _tensors(data)
        for name in (f"{_TAIL}.weight", f"{_TAIL}.bias"):
            tensors[name] = _by_pixel(tensors[name])
        names = [name.removesuffix(".weight") for name in tensors if name.endswith(".weight")]
        weights = {name: transformed(tensors[f"{name}.weight"]) for name in names}
        biases = {name: tensors[f"{name}.bias"] for name in names}
        return cls(**config, weights=weights, biases=biases)

    def takes(self, pixels: Pixels, width: int, height: int) -> bool:
        """Whether a picture is one of those that it was trained on, and wanted larger."""
        return pixels.shape[:2] == (self.side, self.side) and max(width, height) > self.side

    def enlarge(self, pixels: Pixels) -> Pixels:
        """uint8 [side, side, 3 or 4] -> the same, `factor` times as wide and high. The fourth
        channel, alpha, is enlarged as a grey picture."""
        colour = self._enlarged(pixels[..., :3])
        if pixels.shape[2] == 3:
            return colour
        alpha = self._enlarged(np.repeat(pixels[..., 3:], 3, axis=2)).mean(axis=2, keepdims=True)
        return np.concatenate([colour, alpha.round().astype(np.uint8)], axis=2)

    def _enlarged(self, pixels: Pixels) -> Pixels:
        """What Lanczos gives and the network adds, as that of engine/models/enlarger.py."""
        cells = self.side // CELL
        split = (pixels.astype(np.float32) / 127.5 - 1).reshape(cells, CELL, cells, CELL, 3)
        split = split.transpose(0, 2, 4, 1, 3).reshape(cells, cells, -1)
        x = self._convolved("head", np.pad(split, ((1, 1), (1, 1), (0, 0))))
        for index in range(self.blocks):
            y = self._convolved(f"body.{index}.first", bordered(x))
            x += self._convolved(f"body.{index}.second", bordered(y))
        return self._with_added(pixels, bordered(x))

    def _with_added(self, pixels: Pixels, around: Floats) -> Pixels:
        side, step = self.side * self.factor, CELL * self.factor
        plain = resize(np.ascontiguousarray(pixels), side, side)
        before = plain.reshape(side // step, step, side // step, step * 3)
        enlarged, row = np.empty_like(before), 0
        for strip in strips(around, self.weights[_TAIL], self.biases[_TAIL]):
            rows = slice(row, row := row + len(strip))
            added = strip.reshape(len(strip), -1, step, step * 3).swapaxes(1, 2)
            found = np.rint(added + before[rows])
            np.clip(found, 0, 255, out=enlarged[rows], casting="unsafe")
        return enlarged.reshape(plain.shape)

    def _convolved(self, name: str, around: Floats) -> Floats:
        return convolved(around, self.weights[name], self.biases[name])


def _entries(folder: Path) -> tuple[dict[str, int], str]:
    """Its configuration and the digest of its file."""
    path = folder / "model.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        config, sha256 = manifest["config"][PART], manifest["files"][PART]["sha256"]
        found = {name: int(config[name]) for name in ("side", "factor", "blocks")}
        if found["side"] % (CELL * TILE):
            raise ValueError(f"side is no multiple of {CELL * TILE}")
        return found, str(sha256)
    except OSError as error:
        raise EnlargerUnusable(f"{path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        where = f"{path}: field config.{PART} or files.{PART}"
        raise EnlargerUnusable(f"{where} is missing or wrong ({error})") from None


def _tensors(data: bytes) -> dict[str, Floats]:
    """Of a safetensors file whose digest was checked."""
    begin = 8 + int.from_bytes(data[:8], "little")
    found = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            first, end = (begin + at for at in entry["data_offsets"])
            stored = TensorBytes(entry["dtype"], tuple(entry["shape"]), data[first:end])
            found[name] = stored.numpy().astype(np.float32)
    return found


def _by_pixel(tensor: Floats) -> Floats:
    """Outputs of the last convolution, plane by plane -> its three colours side by side; what they
    are in units of [-1, 1] -> in units of [0, 255]."""
    planes = tensor.reshape(3, -1, *tensor.shape[1:]) * np.float32(127.5)
    return planes.swapaxes(0, 1).reshape(tensor.shape)
