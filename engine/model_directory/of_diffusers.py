"""A folder of diffusers: model_index.json and a folder for each component that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.model_directory.component import Component, LoadedBy, custom_class, read_component
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.geometry import (
    Geometry,
    config_of,
    latent_channels,
    of_diffusion,
    vae_scale,
)
from engine.model_directory.json_file import ModelRefused
from engine.model_directory.known_class import KnownClass, known_class

INDEX = "model_index.json"
LIBRARIES = ("diffusers", "transformers")
ENCODER = ("text_encoder", "tokenizer", "processor", "text_processor")
"""What the names of the components begin with that read prompts."""
NOT_LOADED = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that no replica loads; the SafetyClassifier screens pictures."""


def read(path: Path, index: dict[str, Any], known: Mapping[str, KnownClass]) -> ModelDirectory:
    """index: what model_index.json holds. ModelRefused with every component that is wrong."""
    class_name = index.get("_class_name")
    if not isinstance(class_name, str):
        raise ModelRefused(custom_class(path / INDEX))
    row = known_class(path / INDEX, class_name, known)
    parts: list[Component] = []
    skipped: list[str] = []
    problems: list[str] = []
    for name, entry in sorted(index.items()):
        if name.startswith("_") or not isinstance(entry, list) or entry[:1] == [None]:
            continue
        if name in NOT_LOADED:
            skipped.append(name)
            continue
        try:
            library, component_class = _entry(path, name, entry)
            by = LoadedBy.ENCODER if name.startswith(ENCODER) else LoadedBy.DECODER
            parts.append(read_component(path / name, library, component_class, by))
        except ModelRefused as error:
            problems += error.problems
    problems = problems or list(_wrong_together(path, parts))
    if problems:
        raise ModelRefused(*problems)
    geometry = _diffusion_geometry(path, row, parts)
    return ModelDirectory(path, class_name, row, index, tuple(parts), tuple(skipped), geometry)


def _wrong_together(path: Path, parts: list[Component]) -> Iterator[str]:
    variants = sorted({part.variant for part in parts if part.variant})
    if len(variants) > 1:
        yield f"{path}: has parts of the variants {', '.join(variants)}; keep one"
    if not any(part.bytes for part in parts if part.loaded_by is LoadedBy.ENCODER):
        yield f"{path / INDEX}: names no text encoder; download the whole pipeline"


def _entry(path: Path, name: str, entry: list[Any]) -> tuple[str, str]:
    """Library and class of a component. ModelRefused for code of the folder's own."""
    if not name.isidentifier():
        raise ModelRefused(f"{path / INDEX}: {name[:80]!r} is no name of a component; take it out")
    match entry:
        case [str(library), str(class_name)] if library in LIBRARIES and class_name.isidentifier():
            return library, class_name
    raise ModelRefused(
        f"{path / INDEX}: {name} must be a class of {' or '.join(LIBRARIES)}, not {entry!r:.80}; "
        "code of a model's own is never run"
    )


def _diffusion_geometry(path: Path, row: KnownClass, parts: list[Component]) -> Geometry:
    found = {part.name: part for part in parts}
    vae = found.get("vae") or found.get("vqvae")
    denoiser, scheduler = found.get(row.denoiser), found.get("scheduler")
    if vae is None or denoiser is None or scheduler is None:
        raise ModelRefused(
            f"{path / INDEX}: names no vae, {row.denoiser} or scheduler, which drawing needs; "
            "download the whole pipeline"
        )
    with config_of(path / vae.name / "config.json"):
        scale, channels = vae_scale(vae.config), latent_channels(vae.config)
    with config_of(path / denoiser.name / "config.json"):
        return of_diffusion(scale, channels, denoiser.config, scheduler.class_name, row.step)
