"""Loading a checkpoint's directory: safetensors only, offline, no code from the folder, and of the
classes in the table alone. Decoders load it without text encoders, encoders without the rest."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub.constants
import torch

from engine.decoders.diffusers.folder import PipelineFolder
from engine.decoders.diffusers.picture_processor import PICTURES_AND_WORDS, PictureProcessor
from engine.measuring import WeightsLoad
from engine.model_directory.component import LoadedBy, read_component
from engine.model_directory.files import refused_files
from engine.model_directory.json_file import ModelRefused

TEXT_SIDE = ("text_encoder", "tokenizer", "processor", "text_processor")
"""How the components begin that read prompts."""
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that no replica needs: pictures are screened by the service itself."""


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline on its device, and the identity of its weights."""

    pipe: Any
    class_name: str
    digest: str
    """sha256 (hex) over the files of the components that were loaded."""
    load: WeightsLoad
    edge: int = 0
    """Pixels on each side of its own pictures, of what decoders load."""


def load_decoder_side(
    folder: PipelineFolder, device: torch.device, dtype: torch.dtype
) -> LoadedPipeline:
    """The pipeline without what reads prompts. ModelRefused, UnknownPipeline, OSError."""
    began = time.perf_counter()
    kept = [name for name in folder.components if not name.startswith((*TEXT_SIDE, *UNUSED))]
    pipe = _load(folder, kept, dtype)
    vae = getattr(pipe, "vae", None)
    if dtype == torch.float16 and vae is not None and vae.config.get("force_upcast"):
        vae.to(torch.float32)  # the pipeline would switch the shared VAE to and fro
    return replace(_loaded(folder, kept, pipe.to(device), began), edge=folder.edge())


def load_text_side(
    folder: PipelineFolder, device: torch.device, dtype: torch.dtype
) -> LoadedPipeline:
    """The pipeline with nothing but what reads prompts. ModelRefused, OSError."""
    began = time.perf_counter()
    kept = [name for name in folder.components if name.startswith(TEXT_SIDE)]
    pipe = _load(folder, [*kept, "scheduler"], dtype)
    return _loaded(folder, kept, pipe.to(device), began)


def _loaded(folder: PipelineFolder, kept: list[str], pipe: Any, began: float) -> LoadedPipeline:
    digest = _digest(folder.path, kept)
    weights = [path for name in kept for path in (folder.path / name).glob("*.safetensors")]
    size_bytes = sum(path.stat().st_size for path in weights)
    load = WeightsLoad(size_bytes, time.perf_counter() - began)
    return LoadedPipeline(pipe, folder.class_name, digest, load)


def _load(folder: PipelineFolder, kept: list[str], dtype: torch.dtype) -> Any:
    """Everything but `kept` is None."""
    if problems := refused_files(folder.path):
        raise ModelRefused(*problems)
    variant = _variant(folder, kept)
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    named = [name for name, entry in folder.index.items() if isinstance(entry, list)]
    processors = [name for name in kept if folder.index[name][1] == PICTURES_AND_WORDS]
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        str(folder.path),
        local_files_only=True,
        use_safetensors=True,
        variant=variant,
        dtype=dtype,
        **dict.fromkeys(name for name in named if name not in kept),
        **{name: PictureProcessor.from_pretrained(folder.path / name) for name in processors},
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _variant(folder: PipelineFolder, components: list[str]) -> str | None:
    """Such as fp16, where some of these components have no plain weights. ModelRefused, for each
    file that is missing or broken."""
    found = None
    for name in components:
        library, class_name = folder.index[name]
        part = read_component(folder.path / name, library, class_name, LoadedBy.DECODER)
        found = found or part.variant
    return found


def _digest(folder: Path, components: list[str]) -> str:
    """sha256 over the digests of their safetensors and configs, by name."""
    whole = hashlib.sha256()
    for name in sorted(components):
        for path in sorted((folder / name).iterdir()):
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{name}/{path.name} {found}\n".encode())
    return whole.hexdigest()
