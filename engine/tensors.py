"""Tensors as bytes and back, bfloat16 included."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.render import TensorBytes

_TORCH = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in _TORCH.items()}


def to_torch(tensor: TensorBytes) -> Tensor:
    """A tensor of its own memory, on the CPU. TypeError for a dtype that is not in the table."""
    dtype = _TORCH.get(tensor.dtype)
    if dtype is None:
        raise TypeError(f"no tensor of {tensor.dtype}; there are {', '.join(_TORCH)}")
    flat = torch.frombuffer(bytearray(tensor.data), dtype=torch.uint8) if tensor.data else _NOTHING
    return flat.view(dtype).view(tensor.shape)


def from_torch(tensor: Tensor) -> TensorBytes:
    """A copy, from any device. TypeError for a dtype that is not in the table."""
    name = _NAMES.get(tensor.dtype)
    if name is None:
        raise TypeError(f"no tensor of {tensor.dtype}; there are {', '.join(_TORCH)}")
    flat = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return TensorBytes(name, tuple(tensor.shape), flat.numpy().tobytes())


_NOTHING = torch.empty(0, dtype=torch.uint8)
