"""The concept screen: a small network trained beside the picture model, on its own previews and
finals, to see one kind of concept (weapons). It knows this model's style of picture only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.models.screen import ScreenNet
from engine.picture import resize
from engine.render import Pixels
from engine.text import WeightsError
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
        WeightsError when the manifest or the weights are missing or broken."""
        weights = WeightsFolder.open(folder)
        own = _threshold(weights)
        self.threshold = own if threshold is None else threshold
        self._net = ScreenNet().eval()
        weights.fill(self._net, "screen")

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


def _threshold(weights: WeightsFolder) -> float:
    settings = weights.field("screen")
    threshold = settings.get("threshold") if isinstance(settings, dict) else None
    if not isinstance(threshold, float) or not 0 < threshold < 1:
        where = f"{weights.path / MANIFEST}: field screen.threshold"
        raise WeightsError(f"{where} is {threshold!r}, not a number between 0 and 1")
    return threshold
