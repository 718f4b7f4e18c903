"""Enlarges drawn pictures by a small trained network, see engine/models/enlarger.py. In numpy, as
what finishes pictures runs in processes that load no tensor library (docs/decisions/0102)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from engine.picture import resize
from engine.render import Pixels, TensorBytes

PART = "enlarger"
Floats = NDArray[np.float32]


class EnlargerUnusable(ValueError):
    """The weights of an enlarger are missing or wrong: the message names file and field."""


@dataclass(frozen=True)
class Enlarger:
    """side: of the square pictures that it takes, in pixels. factor: by which they grow. weights,
    biases: of the convolutions by name, [9 * inputs, outputs] and [outputs]."""

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
        weights = {
            name.removesuffix(".weight"): _as_columns(tensor)
            for name, tensor in tensors.items()
            if name.endswith(".weight")
        }
        biases = {name: tensors[f"{name}.bias"] for name in weights}
        return cls(config["side"], config["factor"], config["blocks"], weights, biases)

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
        side = self.side * self.factor
        plain = resize(np.ascontiguousarray(pixels), side, side)
        added = self._added(pixels.astype(np.float32) / 127.5 - 1) * 127.5
        np.add(added, plain, out=added)
        return added.round().clip(0, 255).astype(np.uint8)

    def _added(self, picture: Floats) -> Floats:
        """What Lanczos lacks, in [-2, 2]; as the network of engine/models/enlarger.py."""
        half = self.side // 2
        x = picture.reshape(half, 2, half, 2, 3).transpose(0, 2, 4, 1, 3).reshape(half, half, 12)
        x = self._convolved("head", x)
        for index in range(self.blocks):
            y = self._convolved(f"body.{index}.first", np.maximum(x, 0))
            x = x + self._convolved(f"body.{index}.second", np.maximum(y, 0))
        x = self._convolved("tail", np.maximum(x, 0))
        step = 2 * self.factor
        grown = x.reshape(half, half, 3, step, step).transpose(0, 3, 1, 4, 2)
        return grown.reshape(half * step, half * step, 3)

    def _convolved(self, name: str, x: Floats) -> Floats:
        """3 x 3, with zeros around. x [H, W, C]."""
        around = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        windows = sliding_window_view(around, (3, 3), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
        columns = windows.reshape(x.shape[0] * x.shape[1], -1)
        found = columns @ self.weights[name] + self.biases[name]
        return found.reshape(*x.shape[:2], -1)


def _entries(folder: Path) -> tuple[dict[str, int], str]:
    """Its configuration and the digest of its file."""
    path = folder / "model.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        config, sha256 = manifest["config"][PART], manifest["files"][PART]["sha256"]
        return {name: int(config[name]) for name in ("side", "factor", "blocks")}, str(sha256)
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


def _as_columns(weight: Floats) -> Floats:
    """[outputs, inputs, 3, 3] -> [9 * inputs, outputs]."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)))
