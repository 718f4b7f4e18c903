"""One part of a checkpoint: a denoiser, a VAE, a text encoder, a scheduler, a tokenizer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from engine.model_directory.json_file import ModelRefused, read_object
from engine.model_directory.safetensors_header import BITS, SafetensorsFile
from engine.model_directory.weights import read_weights

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
NEEDS = (
    (re.compile(r"Scheduler$"), ("scheduler_config.json",), ()),
    (re.compile(r"Tokenizer(Fast)?$"), ("tokenizer_config.json",), VOCABULARIES),
    (
        re.compile(r"(Processor|FeatureExtractor)(Fast|Pil)?$"),
        ("preprocessor_config.json", "processor_config.json"),
        (),
    ),
    (re.compile(r"(Guidance|Guider)$"), ("guider_config.json",), ()),
)
"""Classes without weights: the first of these files that is there holds the config, and one of
those must be beside it. All other classes are models with a config.json and weights."""


FLOATS = ("F16", "BF16", "F32", "F64")
"""Dtypes that are loaded in any other of them."""


class LoadedBy(StrEnum):
    """Which replicas load a component."""

    DECODER = "decoder"
    ENCODER = "encoder"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Component:
    """A part as it stands on disk, whole and loadable as far as its headers tell."""

    name: str
    """Of the folder; of the tensors' prefix where one file holds all parts."""
    class_name: str
    loaded_by: LoadedBy
    config: Mapping[str, Any]
    bytes_by_dtype: Mapping[str, int]
    """Of its tensors; empty where it has no weights."""
    files: tuple[SafetensorsFile, ...] = ()
    variant: str | None = None

    @property
    def bytes(self) -> int:
        """Of its tensors, as they are stored."""
        return sum(self.bytes_by_dtype.values())

    @property
    def bytes_in_bfloat16(self) -> int:
        """Of its tensors once the floating ones are loaded in bfloat16, as a GPU has them."""
        wide = sum(count * 16 // BITS[d] for d, count in self.bytes_by_dtype.items() if d in FLOATS)
        return wide + sum(n for d, n in self.bytes_by_dtype.items() if d not in FLOATS)


def read_component(folder: Path, library: str, class_name: str, by: LoadedBy) -> Component:
    """ModelRefused when its folder, its config or its weights are missing or broken."""
    if not folder.is_dir():
        raise ModelRefused(f"{folder}: is missing, and model_index.json names it; download it")
    for pattern, configs, beside in NEEDS:
        if pattern.search(class_name):
            config = read_object(_one_of(folder, configs))
            if beside:
                _one_of(folder, beside)
            return Component(folder.name, class_name, by, config, {})
    config = read_object(_one_of(folder, ("config.json",)))
    if not isinstance(config.get("_class_name", ""), str):
        raise ModelRefused(custom_class(folder / "config.json"))
    weights = read_weights(folder, library)
    sizes: Counter[str] = Counter()
    for file in weights.files:
        sizes += file.bytes_by_dtype()
    return Component(folder.name, class_name, by, config, sizes, weights.files, weights.variant)


def custom_class(config: Path) -> str:
    """What is said of a `_class_name` that is a list, or names a file."""
    return (
        f"{config}: _class_name names a class in a file of the model's folder, which is never run; "
        "take a checkpoint of a stock class of diffusers"
    )


def _one_of(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (path := folder / name).exists():
            return path
    raise ModelRefused(f"{folder}: has no {' or '.join(names)}; download it")
