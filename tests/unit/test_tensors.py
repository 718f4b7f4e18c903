"""Tensors as bytes and back: every dtype, shape and bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.render import TensorBytes
from engine.tensors import from_torch, to_torch


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool, torch.uint8, torch.int32, torch.int64,
        torch.float16, torch.bfloat16, torch.float32, torch.float64,
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (2, 3, 4)])
def test_a_tensor_comes_back(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    numbers = torch.arange(torch.Size(shape).numel()) - 3
    tensor = numbers.to(dtype).reshape(shape)
    again = to_torch(from_torch(tensor))
    assert (again.dtype, again.shape) == (dtype, torch.Size(shape))
    assert torch.equal(again, tensor)


def test_bfloat16_is_named_as_safetensors_does() -> None:
    assert from_torch(torch.tensor([1.0], dtype=torch.bfloat16)) == TensorBytes(
        "BF16", (1,), b"\x80\x3f"
    )


def test_nan_and_negative_zero_keep_their_bits() -> None:
    tensor = TensorBytes("F16", (3,), bytes.fromhex("017e0080ff7f"))
    assert from_torch(to_torch(tensor)) == tensor


def test_a_view_is_told_as_it_looks() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert tensor.is_contiguous() is False
    assert from_torch(tensor) == TensorBytes.from_numpy(tensor.numpy())


def test_a_tensor_has_memory_of_its_own() -> None:
    told = TensorBytes.from_numpy(np.zeros(2, np.float32))
    tensor = to_torch(told)
    tensor += 1
    assert told.data == bytes(8)
    assert torch.equal(to_torch(told), torch.zeros(2))


def test_dtypes_without_a_name_are_refused() -> None:
    with pytest.raises(TypeError, match="complex64"):
        from_torch(torch.zeros(1, dtype=torch.complex64))
    with pytest.raises(TypeError, match="F8_E4M3"):
        to_torch(TensorBytes("F8_E4M3", (1,), b"\0"))
