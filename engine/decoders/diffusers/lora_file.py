"""LoRA files: found, checked and read, safetensors only. Reading changes nothing of the model.

A file changes the denoiser, and perhaps text encoders, which run elsewhere: each side reads its own
tensors of it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_peft
from diffusers.utils.peft_utils import _create_lora_config
from peft import inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError, safe_open
from torch import nn

from engine.text import WeightsError

_PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_TEXT_PARTS = {
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2.", "lora_te2_"),
    "text_encoder_3": ("text_encoder_3.", "lora_te3_"),
}
"""How the layers of text encoders begin, as diffusers and as kohya-ss name them."""
_TEXT = ("text_encoder", "lora_te")
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
}
"""What its tensors are called -> what such a file is."""
_ADAPTER = "adapter"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class LoraWeights:
    """What is added to the answer of one layer: up(down(x)) * scale."""

    layer: nn.Module
    """The component's own: a Linear or Conv2d."""
    path: str
    """Where the component has it."""
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


def find(name: str, path: Path, pipe: Any) -> Path:
    """The file of the option `loras.<name>`, which names it or a folder with it alone. Raises
    WeightsError for what cannot be a LoRA of `pipe`, before its weights are read."""
    file = _only_file(name, path) if path.is_dir() else path
    if file.suffix != ".safetensors":
        raise WeightsError(f"loras.{name}: {file} is not a safetensors file; convert it offline")
    keys = _keys(name, file)
    loadable = getattr(pipe, "_lora_loadable_modules", ())
    if unloaded := _text_parts(keys) - {*loadable}:
        raise WeightsError(
            f"loras.{name}: {file} also changes {min(unloaded)}, which diffusers does not do for "
            f"{type(pipe).__name__}; take one of the denoiser alone"
        )
    for mark, kind in _OTHER_KINDS.items():
        if any(mark in key for key in keys):
            raise WeightsError(f"loras.{name}: {file} is a {kind}, not a LoRA")
    return file


def text_parts(name: str, file: Path) -> frozenset[str]:
    """Which text encoders the file changes, by their component's name. WeightsError when it cannot
    be read."""
    return _text_parts(_keys(name, file))


def _text_parts(keys: Sequence[str]) -> frozenset[str]:
    """Layers that look like those of a text encoder, but of none that is known, are parts by their
    own name."""
    return frozenset(_text_part(key) for key in keys if key.startswith(_TEXT))


def _text_part(key: str) -> str:
    known = (part for part, beginnings in _TEXT_PARTS.items() if key.startswith(beginnings))
    return next(known, key)


def _keys(name: str, file: Path) -> list[str]:
    try:
        with safe_open(file, "pt") as header:
            return list(header.keys())
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"loras.{name}: {file} cannot be read ({error})") from error


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
    """Read what `file`, of any layout that diffusers converts, has for `component` of `pipe`.
    Raises WeightsError when it was made for another model, OSError when the file is gone."""
    with file.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    changed = getattr(pipe, component)
    # Made under inference mode, tensors could not be used outside of it.
    with torch.inference_mode(False), torch.no_grad():
        try:
            weights = tuple(_weights(file, pipe, component))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # each layer of the two libraries has errors of its own
            raise WeightsError(
                f"loras.{name} does not fit {type(changed).__name__}: it was made for another model"
            ) from error
    return Lora(name, sha256, weights, sum(_size_bytes(each) for each in weights))


def _weights(file: Path, pipe: Any, component: str) -> Iterator[LoraWeights]:
    """ValueError unless every tensor that is not of a text encoder has its place in the denoiser,
    or every one of a text encoder in that one."""
    state, alphas, metadata = _read(file, pipe)
    changed = getattr(pipe, component)
    twin = _twin(changed)
    others = tuple(f"{part}." for part in _TEXT_PARTS if part != component)
    if component in _TEXT_PARTS:
        own = [key for key in state if key.startswith(f"{component}.")]
        _change_text_encoder(twin, _Tensors(state, alphas, metadata).of(component))
    else:
        own = [key for key in state if not key.startswith(others)]
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
            layer = changed.get_submodule(path)
            yield LoraWeights(layer, path, down, up, lora.scaling[_ADAPTER])
    if not placed or placed != len(own):
        raise ValueError(f"{len(own) - placed} of {len(own)} tensors have no place")


@dataclass(frozen=True, slots=True)
class _Tensors:
    """What a file holds, by diffusers' own names."""

    state: Mapping[str, torch.Tensor]
    alphas: Mapping[str, float] | None
    metadata: Mapping[str, Any] | None

    def of(self, part: str) -> _Tensors:
        """What it holds for a component, by the names of that alone."""
        state, alphas, metadata = (
            _below(part, named) for named in (self.state, self.alphas, self.metadata)
        )
        return _Tensors(state or {}, alphas, metadata)


def _below(part: str, named: Mapping[str, T] | None) -> dict[str, T] | None:
    """None where there is nothing for it."""
    prefix = f"{part}."
    found = {k.removeprefix(prefix): v for k, v in (named or {}).items() if k.startswith(prefix)}
    return found or None


def _change_text_encoder(encoder: Any, read: _Tensors) -> None:
    """As diffusers does, but for what transformers does with the weights around the LoRA, which
    are not the twin's alone."""
    state = convert_state_dict_to_peft(convert_state_dict_to_diffusers(dict(read.state)))
    if not hasattr(encoder, "text_model"):
        state = {key.removeprefix("text_model."): tensor for key, tensor in state.items()}
    ranks = {key: up.shape[1] for key, up in state.items() if key.endswith("lora_B.weight")}
    config = _create_lora_config(state, read.alphas, read.metadata, ranks, is_unet=False)
    inject_adapter_in_model(config, encoder, _ADAPTER, low_cpu_mem_usage=True)
    unexpected = set_peft_model_state_dict(encoder, state, _ADAPTER, low_cpu_mem_usage=True)
    if unexpected.unexpected_keys:
        raise ValueError(f"{unexpected.unexpected_keys[0]} has no place")


def _read(file: Path, pipe: Any) -> tuple[dict[str, torch.Tensor], Any, Any]:
    """Tensors by diffusers' own names, alphas where they are extra, peft's configuration where the
    file has it."""
    more = {}
    if isinstance(pipe, StableDiffusionXLLoraLoaderMixin) and pipe.unet is not None:
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
