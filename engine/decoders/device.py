"""The options `device` and `dtype` of families that load weights."""

from __future__ import annotations

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(name: str) -> torch.device:
    """ "auto" is the GPU that this process was given, if any."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """ "auto" is bfloat16 on a GPU, float16 on one that only emulates that, and float32 elsewhere.
    ValueError naming the option."""
    if name == "auto":
        name = _fastest_on_gpu() if device.type == "cuda" else "float32"
    if name not in DTYPES:
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


def _fastest_on_gpu() -> str:
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
