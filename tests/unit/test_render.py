"""Checkpoints pack and unpack to the same facts, and damage is a ValueError; so do tensors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.render import Checkpoint, Conditioning, TensorBytes

checkpoints = st.builds(
    Checkpoint,
    model=st.text("ab:é0", max_size=80),
    pass_no=st.integers(0, 2**16 - 1),
    seed=st.integers(0, 2**63 - 1),
    state=st.binary(max_size=600),
)


@given(checkpoints)
def test_packing_keeps_every_fact(checkpoint: Checkpoint) -> None:
    assert Checkpoint.from_bytes(checkpoint.to_bytes()) == checkpoint


@given(st.binary(max_size=60))
def test_noise_is_a_checkpoint_or_a_value_error(noise: bytes) -> None:
    try:
        checkpoint = Checkpoint.from_bytes(noise)
    except ValueError:
        return
    assert checkpoint.to_bytes() == noise


def test_a_cut_off_header_or_name_is_named() -> None:
    packed = Checkpoint("masked:abc:1", 3, 7, b"").to_bytes()
    with pytest.raises(ValueError, match="shorter than its header"):
        Checkpoint.from_bytes(packed[:5])
    with pytest.raises(ValueError, match="inside its model name"):
        Checkpoint.from_bytes(packed[:-1])


def test_the_packed_form_is_stable() -> None:
    """Ledgers hold these bytes across releases."""
    packed = Checkpoint("m:1", 2, 3, b"xyz").to_bytes()
    assert packed.hex() == "0300020003000000000000006d3a3178797a"


@pytest.mark.parametrize(
    ("name", "array", "data"),
    [
        ("BOOL", np.array([[True], [False]]), "0100"),
        ("U8", np.array([1, 255], np.uint8), "01ff"),
        ("I64", np.array(-2), "feffffffffffffff"),
        ("F16", np.array([[1.0, -2.0]], np.float16), "003c00c0"),
        ("F32", np.zeros((2, 0, 3), np.float32), ""),
    ],
)
def test_a_tensor_is_its_bytes(name: str, array: np.ndarray, data: str) -> None:
    told = TensorBytes.from_numpy(array)
    assert told == TensorBytes(name, array.shape, bytes.fromhex(data))
    again = told.numpy()
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


def test_strides_and_byte_order_are_not_kept() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert TensorBytes.from_numpy(array).data.hex() == "".join(
        np.float32(value).tobytes().hex() for value in (0, 3, 1, 4, 2, 5)
    )
    with pytest.raises(TypeError, match=">f4"):
        TensorBytes.from_numpy(array.astype(">f4"))


def test_what_numpy_cannot_hold_is_named() -> None:
    with pytest.raises(TypeError, match="BF16"):
        TensorBytes("BF16", (1,), b"\x80\x3f").numpy()
    with pytest.raises(TypeError, match="complex128"):
        TensorBytes.from_numpy(np.zeros(1, np.complex128))


def test_a_conditioning_crosses_processes() -> None:
    prompt = Conditioning.from_numpy("abc", ids=np.array([1, 2]), pooled=np.ones(3, np.float16))
    again = pickle.loads(pickle.dumps(prompt, pickle.HIGHEST_PROTOCOL))
    assert again == prompt
    np.testing.assert_array_equal(again.numpy("ids"), [1, 2])
