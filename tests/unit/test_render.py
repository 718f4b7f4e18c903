"""Checkpoints pack and unpack to the same facts, and damage is a ValueError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.render import Checkpoint

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
