"""The concept screen: a small network trained beside the picture model, on its own previews and
finals, to see one kind of concept (weapons). It knows this model's style of picture only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine.models.screen import ScreenNet
from engine.picture import resize
from engine.render import Pixels
from engine.verdict import ScreenUnusable, require_sha256

MANIFEST = "model.json"
_SIDE = 96
_CHUNK = 16


class ConceptScreen:
    """ScreenNet's probability that a picture shows the trained concept, as category `weapons`.

    Runs on the CPU with torch's process-wide number of threads, which the process's owner sets.
    """

    category = "weapons"

    def __init__(self, folder: Path, *, threshold: float | None = None) -> None:
        """folder: a model's weights folder. threshold: None takes the manifest's.
        ScreenUnusable when the manifest or the weights are missing or broken."""
        settings = _settings(folder / MANIFEST)
        self.threshold = settings["threshold"] if threshold is None else threshold
        path = folder / settings.get("file", "screen.safetensors")
        self._net = _load(path, settings.get("sha256"))

    def scores(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """Pictures of any size -> float32 [B] in 0..1."""
        found = [self._chunk(pixels[i : i + _CHUNK]) for i in range(0, len(pixels), _CHUNK)]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)

    def _chunk(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        small = np.stack([resize(picture, _SIDE, _SIDE) for picture in pixels])
        with torch.inference_mode():
            batch = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255  # [B, 3, 96, 96]
            found: NDArray[np.float32] = torch.sigmoid(self._net(batch)).float().numpy()
        return found


def _settings(manifest: Path) -> dict[str, Any]:
    """The manifest's "screen" object, its threshold checked."""
    if not manifest.is_file():
        raise ScreenUnusable(manifest, "file", "missing")
    try:
        settings = json.loads(manifest.read_text(encoding="utf-8")).get("screen")
    except (ValueError, AttributeError) as error:
        raise ScreenUnusable(manifest, "file", f"not a JSON object ({error})") from error
    if not isinstance(settings, dict):
        raise ScreenUnusable(manifest, "screen", "missing")
    threshold = settings.get("threshold")
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        raise ScreenUnusable(manifest, "screen.threshold", f"is {threshold!r}, not within 0..1")
    return settings


def _load(path: Path, sha256: str | None) -> ScreenNet:
    if sha256 is not None:
        require_sha256(path, sha256)
    if not path.is_file():
        raise ScreenUnusable(path, "file", "missing")
    net = ScreenNet()
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except SafetensorError as error:
        raise ScreenUnusable(path, "file", f"not a safetensors file ({error})") from error
    except RuntimeError as error:  # torch names every missing, unexpected or misshapen tensor
        raise ScreenUnusable(path, "tensors", str(error)) from error
    return net.eval()
