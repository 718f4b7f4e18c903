"""Which precision the embedded model is computed in follows the processor, unless it is said."""

from __future__ import annotations

import pytest
import torch

from engine.precision import precision_of, processor_flags


@pytest.mark.parametrize(
    ("asked", "device", "flags", "expected"),
    [
        ("auto", "cpu", {"avx2", "avx512f"}, "float32"),
        ("auto", "cpu", {"avx512f", "avx512_bf16"}, "bfloat16"),
        ("auto", "auto", {"amx_tile", "amx_bf16"}, "bfloat16"),
        ("auto", "cuda", {"avx512_bf16"}, "float32"),
        ("auto", "cuda:1", {"avx512_bf16"}, "float32"),
        ("auto", "cpu", (), "float32"),
        ("float32", "cpu", {"avx512_bf16"}, "float32"),
        ("bfloat16", "cpu", {"avx2"}, "bfloat16"),
        ("bfloat16", "cuda", (), "bfloat16"),
    ],
)
def test_it_follows_the_processor(asked: str, device: str, flags: set[str], expected: str) -> None:
    assert precision_of(asked, device, flags) == expected


def test_torch_sees_the_same_processor() -> None:
    seen = torch.cpu.get_capabilities()
    for name in ("avx512_bf16", "amx_bf16"):
        assert (name in processor_flags()) is bool(seen.get(name))


@pytest.mark.parametrize("asked", ["float16", "", None, 16])
def test_another_one_is_refused_by_name(asked: object) -> None:
    with pytest.raises(ValueError, match="dtype must be auto, float32 or bfloat16"):
        precision_of(asked, "cpu")
