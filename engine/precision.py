"""In which precision the embedded model's large products are done. Loads no tensor library, so that
a gateway and a command can say what a decoder on this machine will do."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from functools import cache
from pathlib import Path

AUTO = "auto"
PRECISIONS = ("float32", "bfloat16")
BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Instructions that multiply bfloat16, as Linux names them. Without one, torch computes the same
through float32, and slower than that."""


def precision_of(asked: object, device: str, flags: Collection[str] | None = None) -> str:
    """asked: the option `dtype`; "auto" is bfloat16 on a CPU that multiplies it, else float32.
    device: the option `device`. flags: of the processor, None for this machine's. ValueError naming
    the option."""
    if asked in PRECISIONS:
        return str(asked)
    if asked != AUTO:
        raise ValueError(f"dtype must be {AUTO}, {' or '.join(PRECISIONS)}, got {asked!r}")
    if device.startswith("cuda"):
        return "float32"
    flags = processor_flags() if flags is None else flags
    return "float32" if BFLOAT16_FLAGS.isdisjoint(flags) else "bfloat16"


@cache
def processor_flags() -> frozenset[str]:
    """Of this machine's first processor; empty where Linux on x86 does not say."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    return frozenset()
