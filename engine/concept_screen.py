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

from engine.models.screen import ScreenNet
from engine.picture import resize
from engine.render import Pixels
from engine.text import WeightsError
from engine.verdict import ScreenUnusable, require_sha256
from engine.weights import MANIFEST, WeightsFolder

_SIDE = 96
_CHUNK = 16


class ConceptScreen:
    """ScreenNet's probability that a picture shows the trained concept, as category `weapons`.

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
        small = np.stack([resize(picture, _SIDE, _SIDE) for picture in pixels])
        with torch.inference_mode():
            batch = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255  # [B, 3, 96, 96]
            found: NDArray[np.float32] = torch.sigmoid(self._net(batch)).numpy()
        return found


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


def _load(path: Path, sha256: str) -> ScreenNet:
    require_sha256(path, sha256)
    net = ScreenNet().eval()
    try:
        tensors = load(path.read_bytes())
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except SafetensorError as error:
        raise ScreenUnusable(path, "file", f"not a safetensors file ({error})") from error
    except RuntimeError as error:  # torch names every missing, unexpected or misshapen tensor
        raise ScreenUnusable(path, "tensors", str(error)) from error
    return net
