"""A Janus checkpoint as its JSON files describe it. Loads no weights and no tensor library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.model_directory.directory import ModelDirectory
from engine.model_directory.json_file import ModelRefused, read_object
from engine.model_directory.known_class import KnownClass
from engine.model_directory.reader import read_model

KNOWN = {"JanusForConditionalGeneration": KnownClass("janus", "janus", rows=2)}
VOCABULARY_MAX = 2**20
CODEBOOK_MAX = 2**16
"""A render's checkpoint has two bytes for each token."""


@dataclass(frozen=True, slots=True)
class JanusFolder:
    """What must be known of a checkpoint before its weights are loaded."""

    directory: ModelDirectory
    side: int
    """Cells across and down."""
    codebook: int
    """How many image tokens there are."""
    bos: int
    boi: int
    """Text tokens that begin a prompt, and the picture."""
    pad: int
    """The text token that stands for every other one where nothing is asked for."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    """Pixels, 0..255, are (value * std + mean) / scale of what the VQ decoder gives."""

    @property
    def path(self) -> Path:
        return self.directory.path

    @property
    def size(self) -> int:
        """Pixels across and down."""
        return self.directory.geometry.edge

    @property
    def cells(self) -> int:
        """Image tokens of a picture."""
        return self.side * self.side

    @classmethod
    def open(cls, path: Path) -> JanusFolder:
        """ModelRefused says of every file and field what is wrong."""
        directory = read_model(path, KNOWN)
        generation = path / "generation_config.json"
        special = read_object(generation)
        image_processor, numbers = _image_processor(path)
        return cls(
            directory,
            math.isqrt(directory.geometry.tokens),
            codebook=_whole(
                path / "config.json", directory.config["vq_config"], "num_embeddings", CODEBOOK_MAX
            ),
            bos=_whole(generation, special, "bos_token_id"),
            boi=_whole(generation, special["generation_kwargs"], "boi_token_id"),
            pad=_whole(generation, special, "pad_token_id"),
            mean=_colours(image_processor, numbers, "image_mean"),
            std=_colours(image_processor, numbers, "image_std"),
            scale=float(numbers.get("rescale_factor", 1 / 255)),
        )


def _image_processor(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """Its file, of today's transformers or of those where it had one of its own; its numbers."""
    today = path / "processor_config.json"
    if today.exists() and isinstance(found := read_object(today).get("image_processor"), dict):
        return today, found
    before = path / "preprocessor_config.json"
    return before, read_object(before)


def _whole(source: Path, numbers: Mapping[str, Any], name: str, most: int = VOCABULARY_MAX) -> int:
    found = numbers.get(name)
    if type(found) is not int or not 0 <= found <= most:
        raise ModelRefused(f"{source}: {name} must be a number up to {most}; download it again")
    return found


def _colours(source: Path, numbers: Mapping[str, Any], name: str) -> tuple[float, ...]:
    match numbers.get(name):
        case [float() | int() as red, float() | int() as green, float() | int() as blue]:
            return (float(red), float(green), float(blue))
        case _:
            raise ModelRefused(f"{source}: {name} must be three numbers; download it again")
