"""A folder of transformers: one model that draws with image tokens, such as Janus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.model_directory.component import Component, LoadedBy, read_component
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.geometry import config_of, of_tokens, section
from engine.model_directory.json_file import ModelRefused, read_object
from engine.model_directory.known_class import KnownClass, known_class
from engine.model_directory.safetensors_header import SafetensorsFile
from engine.model_directory.weights import read_weights

CONFIG = "config.json"


def read(path: Path, config: dict[str, Any], known: Mapping[str, KnownClass]) -> ModelDirectory:
    """config: what config.json holds. ModelRefused with the first thing that is wrong."""
    source = path / CONFIG
    match config.get("architectures"):
        case [str(class_name)]:
            row = known_class(source, class_name, known)
        case _:
            raise ModelRefused(
                f"{source}: architectures must name one class, one of {', '.join(sorted(known))}"
            )
    generation = read_object(path / "generation_config.json")
    match generation.get("generation_kwargs"):
        case {"boi_token_id": int()}:
            pass
        case _:
            raise ModelRefused(
                f"{path / 'generation_config.json'}: generation_kwargs.boi_token_id is missing, "
                "the token that begins an image; take the folder that transformers wrote"
            )
    tokenizer = read_component(path, "transformers", "Tokenizer", LoadedBy.ENCODER)
    tokenizer = replace(tokenizer, name="tokenizer")
    with config_of(source):
        geometry = of_tokens(section(config, "vision_config"), section(config, "vq_config"))
    weights = read_weights(path, "transformers").files
    parts = [
        Component(name, class_name, LoadedBy.DECODER, {}, sizes, weights)
        for name, sizes in sorted(_sizes(weights).items())
    ]
    return ModelDirectory(path, class_name, row, config, (*parts, tokenizer), (), geometry)


def _sizes(files: tuple[SafetensorsFile, ...]) -> dict[str, Counter[str]]:
    """Bytes by dtype of each part of the model, by the name of its module."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for file in files:
        for name, tensor in file.tensors.items():
            part = name.removeprefix("model.").partition(".")[0]
            found[part][tensor.dtype] += tensor.bytes
    return found
