"""Which safetensors files a component is loaded from: one file, the shards of an index, or a
variant of either such as fp16."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.model_directory.json_file import ModelRefused, read_object
from engine.model_directory.safetensors_header import SafetensorsFile, read_header

STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""What each library calls the weights in a component's folder."""
_VARIANT = re.compile(r"\.(\w+)\.safetensors|\.safetensors\.index\.(\w+)\.json")
"""What follows the stem in the name of a variant's file."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What is loaded from one folder."""

    files: tuple[SafetensorsFile, ...]
    variant: str | None = None
    """As `from_pretrained(variant=...)` takes it, where the plain files are absent."""


def read_weights(folder: Path, library: str) -> Weights:
    """The headers of a folder's weights. ModelRefused when there are none, or several variants and
    no plain ones, or a shard that is missing or broken."""
    stem = STEMS.get(library, STEMS["transformers"])
    if (whole := folder / f"{stem}.safetensors").exists() and library != "diffusers":
        return Weights((read_header(whole),))  # transformers prefers it to an index
    if (index := folder / f"{stem}.safetensors.index.json").exists():
        return Weights(_shards(index))
    if whole.exists():
        return Weights((read_header(whole),))
    return _variant(folder, stem)


def _variant(folder: Path, stem: str) -> Weights:
    found = {
        m[1] or m[2]: path
        for path in sorted(folder.iterdir())
        if path.name.startswith(stem) and (m := _VARIANT.fullmatch(path.name.removeprefix(stem)))
    }
    if len(found) > 1:
        raise ModelRefused(
            f"{folder}: has the variants {', '.join(sorted(found))} and no plain {stem}."
            "safetensors; keep one"
        )
    for variant, path in found.items():
        sharded = path.suffix == ".json"
        return Weights(_shards(path) if sharded else (read_header(path),), variant)
    raise ModelRefused(
        f"{folder}: has no {stem}.safetensors and no index of shards; download the safetensors "
        "files, or convert the weights to safetensors"
    )


def _shards(index: Path) -> tuple[SafetensorsFile, ...]:
    """Of an index, in the order of their names. Every tensor must stand where the index says."""
    places = _weight_map(index, read_object(index))
    shards = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name or not (shard := index.parent / name).exists():
            raise ModelRefused(f"{index}: names the shard {name}, which is not there; download it")
        shards[name] = read_header(shard)
    for tensor, name in places.items():
        if tensor not in shards[name].tensors:
            raise ModelRefused(
                f"{index}: says that {name} holds {tensor}, which is not there; download both again"
            )
    return tuple(shards.values())


def _weight_map(index: Path, document: dict[str, Any]) -> dict[str, str]:
    match document.get("weight_map"):
        case dict(places) if places and all(isinstance(name, str) for name in places.values()):
            return places
    raise ModelRefused(f"{index}: weight_map must name the shard of each tensor; download it again")
