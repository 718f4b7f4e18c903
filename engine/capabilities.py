"""What each decoder family can do: the gateway validates by it, shows it, and prices
edits by it. Reads a manifest at most; no tensor library is loaded."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from engine.decoders.diffusers.folder import PipelineFolder
from engine.decoders.diffusers.table import CLASSES, LORAS_LOADED, Task, classes_by_task
from engine.decoders.janus.folder import JanusFolder
from engine.precision import AUTO, precision_of

DEFAULT_WEIGHTS = Path(__file__).resolve().parents[1] / "weights" / "emoji-2"

OWN, NO_ENLARGER = "own", "none"
"""Which enlarger: that of the model's weights, where there is one, or none."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Of a decoder family with its options."""

    picture_size: tuple[int, int]
    """Width and height in pixels of what it draws, before any upscaling."""
    grid: tuple[int, int]
    """Columns and rows of its cells."""
    input_images: int
    """How many pictures an edit may bring, 0 where it cannot edit."""
    mask: bool = False
    """Whether an edit may say which part of a picture is drawn anew."""
    strength: bool = False
    """Whether an edit may change a picture as a whole, to a degree. With neither, a picture that
    comes in is looked at, and another one is drawn."""
    strength_rounds_up: bool = False
    """See region.changed_passes."""
    encoder_looks: bool = False
    """Whether its text encoders look at them, too: PromptText.pictures."""
    draws: bool = True
    """Whether it draws from words alone."""
    transparent: bool = False
    """Whether it draws a real alpha channel."""
    negative_prompt: bool = False
    """Whether it can be told what not to draw."""
    loras: tuple[str, ...] = ()
    """Names of those that the operator lists."""
    loras_max: int = 0
    """How many of them one picture may be drawn with."""
    guidance: bool = True
    """Whether it can be told how closely to follow the prompt."""
    size_multiple: int = 0
    """Pixels by which width and height are divisible in a family that draws any shape; 0 where all
    its pictures are of picture_size."""
    precision: str = ""
    """In which its large products are done on a processor like this machine's, "" where the family
    does not choose. Each replica chooses for its own."""

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """Of `dataclasses.asdict` behind JSON, without the fields of newer versions. TypeError
        where one is missing."""
        known: dict[str, Any] = {
            field.name: tuple(one) if isinstance(one := said[field.name], list) else one
            for field in fields(cls)
            if field.name in said
        }
        return cls(**known)

    @property
    def looks(self) -> bool:
        """Whether an edit is a picture of its own, for which those that come in are looked at."""
        return self.input_images > 0 and not (self.mask or self.strength)

    @property
    def cells(self) -> int:
        """Of the whole grid: the tokens of a picture."""
        return self.grid[0] * self.grid[1]

    def drawn_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in which a picture of that size is drawn, before it is resized: its own
        or near it, with no more pixels than picture_size, beyond which models repeat themselves."""
        if not self.size_multiple:
            return self.picture_size
        scale = min(1.0, math.sqrt(math.prod(self.picture_size) / (width * height)))
        return self._stepped(width * scale), self._stepped(height * scale)

    def _stepped(self, pixels: float) -> int:
        return max(1, math.floor(pixels / self.size_multiple)) * self.size_multiple


def capabilities(family: str, options: Mapping[str, object]) -> Capabilities:
    """Of a family with these options, as `create_decoder` takes them. KeyError for an unknown
    family; OSError or ValueError for weights whose manifest cannot be read."""
    return _OF[family](options)


def weights_identity(family: str, options: Mapping[str, object]) -> str:
    """16 hex digits that differ where the family, its options or what describes its weights do.
    OSError."""
    digest = hashlib.sha256(json.dumps([family, dict(options)], sort_keys=True).encode())
    if weights := _weights_folder(family, options):
        for name in ("model.json", "model_index.json", "config.json"):
            if (manifest := weights / name).is_file():
                digest.update(manifest.read_bytes())
    return digest.hexdigest()[:16]


def _weights_folder(family: str, options: Mapping[str, object]) -> Path | None:
    """Where a family with these options has its weights; None where it has none."""
    weights = options.get("weights") or (DEFAULT_WEIGHTS if family == "masked" else None)
    return None if weights is None else Path(str(weights))


def enlarger_folder(chosen: str, family: str, options: Mapping[str, object]) -> Path | None:
    """Where the enlarger of a family's pictures is, None for none. chosen: OWN, NO_ENLARGER, or a
    weights folder. OSError or ValueError for a manifest that cannot be read."""
    if chosen != OWN:
        return None if chosen == NO_ENLARGER else Path(chosen)
    weights = _weights_folder(family, options)
    if weights is None or not (manifest := weights / "model.json").is_file():
        return None
    files = json.loads(manifest.read_text(encoding="utf-8")).get("files", {})
    return weights if "enlarger" in files else None


def _diffusers(options: Mapping[str, object]) -> Capabilities:
    folder = PipelineFolder.open(Path(str(options.get("weights", ""))))
    edge, tasks = folder.edge(), classes_by_task(folder.class_name)
    cells = edge // folder.architecture.size_multiple
    loras, loras_max = _loras(options)
    mask, strength = Task.REDRAW in tasks, Task.CHANGE in tasks
    images = 1 if mask or strength else CLASSES[folder.class_name].references_max
    return Capabilities(
        (edge, edge),
        (cells, cells),
        images,
        mask=mask,
        strength=strength,
        strength_rounds_up=folder.architecture.strength_rounds_up,
        encoder_looks=CLASSES[folder.class_name].encoder_pixels > 0,
        draws=Task.DRAW in tasks,
        negative_prompt=folder.guided and bool(folder.architecture.negative),
        guidance=folder.guided,
        loras=loras,
        loras_max=loras_max,
        size_multiple=folder.architecture.size_multiple,
    )


def _loras(options: Mapping[str, object]) -> tuple[tuple[str, ...], int]:
    """Their names, and how many of them fit in memory at once."""
    listed, loaded = options.get("loras") or {}, options.get("loras_loaded", LORAS_LOADED)
    if not isinstance(listed, Mapping) or not all(isinstance(name, str) for name in listed):
        raise ValueError("loras must be files, or folders of one, by their names")
    if not isinstance(loaded, int):
        raise ValueError(f"loras_loaded must be a whole number, got {loaded!r}")
    return tuple(listed), min(loaded, len(listed))


def _janus(options: Mapping[str, object]) -> Capabilities:
    folder = JanusFolder.open(Path(str(options.get("weights", ""))))
    return Capabilities((folder.size, folder.size), (folder.side, folder.side), input_images=0)


def _masked(options: Mapping[str, object]) -> Capabilities:
    manifest = Path(str(options.get("weights") or DEFAULT_WEIGHTS)) / "model.json"
    try:
        codec = json.loads(manifest.read_text(encoding="utf-8"))["config"]["codec"]
        size, side = int(codec["size"]), int(codec["size"]) // (int(codec["patch"]) * 4)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{manifest}: field config.codec is missing or wrong ({error})") from None
    precision = precision_of(options.get("dtype", AUTO), str(options.get("device", AUTO)))
    return Capabilities(
        (size, size),
        (side, side),
        input_images=1,
        mask=True,
        strength=True,
        transparent=codec.get("alpha") is True,
        precision=precision,
    )


def _paced(options: Mapping[str, object]) -> Capabilities:
    return Capabilities((128, 128), (16, 16), input_images=1, mask=True, strength=True)


_OF: Mapping[str, Callable[[Mapping[str, object]], Capabilities]] = {
    "diffusers": _diffusers,
    "janus": _janus,
    "masked": _masked,
    "paced": _paced,
}
