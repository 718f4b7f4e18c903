"""LoRA files: found, checked and read, safetensors only. Reading changes nothing of the model."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import nn

from engine.text import WeightsError

_PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_TEXT_ENCODER = ("text_encoder", "lora_te")  # as diffusers and as kohya-ss name its layers
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
}
"""What its tensors are called -> what such a file is."""
_ADAPTER = "adapter"


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """What is added to the answer of one layer: up(down(x)) * scale."""

    layer: nn.Module
    """The denoiser's own: a Linear or Conv2d."""
    path: str
    """Where the denoiser has it."""
    down: nn.Module
    """To the LoRA's rank."""
    up: nn.Module
    scale: float
    """alpha / rank, as the file says it; the weight of a render comes on top."""


@dataclass(frozen=True, slots=True, eq=False)
class Lora:
    """A file in memory, on the device and in the dtype of the denoiser."""

    name: str
    sha256: str
    """Of the whole file."""
    weights: tuple[LoraWeights, ...]
    size_bytes: int


def find(name: str, path: Path) -> Path:
    """The file of the option `loras.<name>`, which names it or a folder with it alone. Raises
    WeightsError for what cannot be a LoRA of a denoiser, before its weights are read."""
    file = _only_file(name, path) if path.is_dir() else path
    if file.suffix != ".safetensors":
        raise WeightsError(f"loras.{name}: {file} is not a safetensors file; convert it offline")
    try:
        with safe_open(file, "pt") as header:
            keys = list(header.keys())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"loras.{name}: {file} cannot be read ({error})") from error
    if any(key.startswith(_TEXT_ENCODER) for key in keys):
        raise WeightsError(
            f"loras.{name}: {file} also changes the text encoder, which is not supported; "
            "take one of the denoiser alone"
        )
    for mark, kind in _OTHER_KINDS.items():
        if any(mark in key for key in keys):
            raise WeightsError(f"loras.{name}: {file} is a {kind}, not a LoRA")
    return file


def _only_file(name: str, folder: Path) -> Path:
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
    if pickles:
        raise WeightsError(
            f"loras.{name}: {folder} holds {pickles[0]}, a pickle, which may run code when it is "
            "loaded; convert it to safetensors offline and remove it"
        )
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise WeightsError(
            f"loras.{name}: {folder} must hold one safetensors file, not {len(files)}; "
            "the option may also name the file"
        )
    return files[0]


def load(name: str, file: Path, pipe: Any, component: str) -> Lora:
    """Read `file`, of any layout that diffusers converts, for `pipe`'s denoiser `component`.
    Raises WeightsError when it was made for another model, OSError when the file is gone."""
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    denoiser = getattr(pipe, component)
    # Made under inference mode, tensors could not be used outside of it.
    with torch.inference_mode(False), torch.no_grad():
        try:
            weights = tuple(_weights(file, pipe, component))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # each layer of the two libraries has errors of its own
            raise WeightsError(
                f"loras.{name} does not fit {type(denoiser).__name__}: it was made for another "
                "model"
            ) from error
    return Lora(name, sha256, weights, sum(_size_bytes(each) for each in weights))


def _weights(file: Path, pipe: Any, component: str) -> Iterator[LoraWeights]:
    """ValueError unless every tensor of the file has its place in the denoiser."""
    state, alphas, metadata = _read(file, pipe)
    denoiser = getattr(pipe, component)
    twin = _twin(denoiser)
    twin.load_lora_adapter(
        state,
        prefix=component,
        network_alphas=alphas,
        metadata=metadata,
        adapter_name=_ADAPTER,
        low_cpu_mem_usage=True,
    )
    placed = 0
    for path, lora in twin.named_modules():
        if isinstance(lora, LoraLayer) and _can_be_mixed(lora):
            down, up = lora.lora_A[_ADAPTER], lora.lora_B[_ADAPTER]
            placed += len([*down.parameters(), *up.parameters()])
            layer = denoiser.get_submodule(path)
            yield LoraWeights(layer, path, down, up, lora.scaling[_ADAPTER])
    if not placed or placed != len(state):
        raise ValueError(f"{len(state) - placed} of {len(state)} tensors have no place")


def _read(file: Path, pipe: Any) -> tuple[dict[str, torch.Tensor], Any, Any]:
    """Tensors by diffusers' own names, alphas where they are extra, peft's configuration where the
    file has it."""
    more = {}
    if isinstance(pipe, StableDiffusionXLLoraLoaderMixin):
        more["unet_config"] = pipe.unet.config  # its blocks have other numbers in other layouts
    state, *alphas, metadata = pipe.lora_state_dict(
        str(file.parent),
        weight_name=file.name,
        local_files_only=True,
        use_safetensors=True,
        return_alphas=True,
        return_lora_metadata=True,
        **more,
    )
    # Copies, for these are maps of the file: writing over it would change pictures, and cutting it
    # off would end the process.
    state = {key: tensor.clone() for key, tensor in state.items()}
    return state, alphas[0] if alphas else None, metadata


def _twin(module: Any) -> Any:
    """The same weights in modules of its own, so that what is put between them is not seen by
    `module`, which may be drawing."""
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else _twin(child) for name, child in module._modules.items()
    }
    return twin


def _can_be_mixed(lora: LoraLayer) -> bool:
    """Its rows are independent, and it adds to the answer of one layer, nothing else."""
    plain = isinstance(lora.get_base_layer(), (nn.Linear, nn.Conv2d))
    return plain and _ADAPTER in lora.lora_A and _ADAPTER not in lora.lora_variant


def _size_bytes(weights: LoraWeights) -> int:
    tensors = [*weights.down.parameters(), *weights.up.parameters()]
    return sum(tensor.nbytes for tensor in tensors)
