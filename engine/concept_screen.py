"""The concept screen: a small network trained beside the picture model, on its own previews and
finals, to see one kind of concept (weapons). It knows this model's style of picture only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from engine.models.screen import TwoLooks
from engine.picture import resize
from engine.render import Pixels
from engine.text import WeightsError
from engine.verdict import ScreenUnusable, require_sha256
from engine.weights import MANIFEST, WeightsFolder

SIDE = 96
_APART = 36
"""By how much a pixel differs from the background in one channel, to stand before it."""
_LEAST, _MARGIN = 24, 6
"""Pixels of the smallest part that is enlarged, and of the background around it."""
_CHUNK = 16


class ConceptScreen:
    """The probability of two networks that a picture shows the trained concept (`weapons`).

    Runs on the CPU with torch's process-wide number of threads, which the process's owner sets.
    """

    category = "weapons"

    def __init__(self, folder: Path, *, threshold: float | None = None) -> None:
        """folder: a model's weights folder. threshold: None takes the manifest's.
        WeightsError (manifest) or ScreenUnusable (weights) names what is missing or broken."""
        settings = _settings(WeightsFolder.open(folder))
        self.threshold = settings.threshold if threshold is None else threshold
        self._net = _load(folder / settings.file, settings.sha256)

    def scores(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """Pictures of any size -> float32 [B] in 0..1."""
        found = [self._chunk(pixels[i : i + _CHUNK]) for i in range(0, len(pixels), _CHUNK)]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)

    def _chunk(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        small = [resize(picture, SIDE, SIDE) for picture in pixels]
        with torch.inference_mode():
            looks = _input(small), _input([near(picture) for picture in small])
            found: NDArray[np.float32] = torch.sigmoid(self._net(*looks)).numpy()
        return found


def near(picture: Pixels) -> Pixels:
    """What stands before the background of a 96 x 96 picture, in a square, enlarged to that size;
    the background is the colour that most of the edge has."""
    edge = np.concatenate(
        [
            part.reshape(-1, 3)
            for part in (picture[:3], picture[-3:], picture[:, :3], picture[:, -3:])
        ]
    )
    ground = np.median(edge, axis=0)
    least, most = (np.clip(line, 0, 255).astype(np.uint8) for line in
                   (np.ceil(ground - _APART), np.floor(ground + _APART)))  # fmt: skip
    apart = ((picture < least) | (picture > most)).any(axis=2)
    rows, columns = (np.flatnonzero(apart.sum(axis=axis) > 1) for axis in (1, 0))
    if not rows.size or not columns.size:
        return picture
    spans = [(int(line[0]), int(line[-1]) + 1) for line in (rows, columns)]
    side = min(SIDE, max(_LEAST, *(end - begin for begin, end in spans)) + _MARGIN)
    top, left = (min(max(0, (b + e - side) // 2), SIDE - side) for b, e in spans)
    part = np.ascontiguousarray(picture[top : top + side, left : left + side])
    return resize(part, SIDE, SIDE)


def _input(pictures: Sequence[Pixels]) -> Tensor:
    """[B, 3, 96, 96] in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the manifest's "screen" object says, checked."""

    threshold: float
    file: str
    sha256: str


def _settings(weights: WeightsFolder) -> _Settings:
    stored = weights.field("screen")
    where = f"{weights.path / MANIFEST}: field screen"
    if not isinstance(stored, dict):
        raise WeightsError(f"{where} must be an object, is {stored!r}")
    threshold = stored.get("threshold")
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        raise WeightsError(f"{where}.threshold is {threshold!r}, not a number between 0 and 1")
    for name in ("file", "sha256"):
        if not isinstance(stored.get(name), str):
            raise WeightsError(f"{where}.{name} is missing")
    return _Settings(threshold, stored["file"], stored["sha256"])


def _load(path: Path, sha256: str) -> TwoLooks:
    require_sha256(path, sha256)
    net = TwoLooks().eval()
    try:
        tensors = load(path.read_bytes())
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except SafetensorError as error:
        raise ScreenUnusable(path, "file", f"not a safetensors file ({error})") from error
    except RuntimeError as error:  # torch names every missing, unexpected or misshapen tensor
        raise ScreenUnusable(path, "tensors", str(error)) from error
    return net.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]
