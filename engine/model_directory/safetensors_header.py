"""The header of a safetensors file: which tensors it holds and how large they are. The data behind
it is not read. It is checked as strictly as the safetensors library does when it loads."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.model_directory.json_file import ModelRefused, parse_object

HEADER_BYTES = 16 * 2**20
"""At most. A header has about 100 bytes a tensor; the library itself stops at 100 MB."""
LENGTH_BYTES = 8
DIMENSIONS = 64
BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Bits of one value, by the names that the format knows."""
LFS_POINTER = b"version "
"""The first bytes of what a clone holds where Git LFS did not fetch the file."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header describes it."""

    dtype: str
    values: int
    begin: int
    """Its first byte, counted from the end of the header."""
    end: int

    @property
    def bytes(self) -> int:
        """As it is stored."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """A file whose header was read and found to fit its size."""

    path: Path
    size_bytes: int
    header_sha256: str
    tensors: Mapping[str, StoredTensor]

    def bytes_by_dtype(self) -> Counter[str]:
        """Of its tensors."""
        found: Counter[str] = Counter()
        for tensor in self.tensors.values():
            found[tensor.dtype] += tensor.bytes
        return found


def read_header(path: Path) -> SafetensorsFile:
    """ModelRefused when the file is cut off, no safetensors file, or has a hostile header."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(LENGTH_BYTES)
            length = int.from_bytes(start, "little")
            header = file.read(length) if length <= HEADER_BYTES else file.read(64)
    except OSError as error:
        raise ModelRefused(f"{path}: cannot be read ({error.strerror}); copy it again") from None
    if start == LFS_POINTER:
        raise ModelRefused(f"{path}: is a Git LFS pointer, not the weights; run git lfs pull")
    if len(start) == LENGTH_BYTES and length > HEADER_BYTES:
        raise ModelRefused(
            f"{path}: says that its header has {length:,} bytes, at most {HEADER_BYTES:,} are "
            "read; it is no safetensors file: copy or convert it again"
        )
    if len(start) < LENGTH_BYTES or len(header) < length:
        raise ModelRefused(f"{path}: is cut off inside of its header; copy it again")
    tensors = _tensors(parse_object(header, path), path)
    data_bytes, found = _end(tensors, path), size - LENGTH_BYTES - length
    if found < data_bytes:
        raise ModelRefused(
            f"{path}: is cut off: its header promises {data_bytes:,} bytes of tensors and "
            f"{found:,} are there; copy it again"
        )
    if found > data_bytes:
        raise ModelRefused(
            f"{path}: has {found - data_bytes:,} bytes that no tensor names; copy it again"
        )
    return SafetensorsFile(path, size, hashlib.sha256(start + header).hexdigest(), tensors)


def _tensors(header: Mapping[str, object], path: Path) -> dict[str, StoredTensor]:
    return {
        name: _tensor(name, entry, path) for name, entry in header.items() if name != "__metadata__"
    }


def _tensor(name: str, entry: object, path: Path) -> StoredTensor:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [begin, end]} if (
            dtype in BITS and len(shape) <= DIMENSIONS and all(map(_is_size, (*shape, begin, end)))
        ):
            values = math.prod(shape)
            if values * BITS[dtype] == (end - begin) * 8:
                return StoredTensor(dtype, values, begin, end)
    raise ModelRefused(
        f"{path}: the header's entry {name[:80]!r} is not a tensor with a known dtype, a shape and "
        "the offsets of that many bytes; copy or convert the file again"
    )


def _is_size(dimension: object) -> bool:
    return type(dimension) is int and 0 <= dimension < 2**63


def _end(tensors: Mapping[str, StoredTensor], path: Path) -> int:
    """Where the last tensor ends. ModelRefused unless they lie one behind the other."""
    end = 0
    for begin, after in sorted((tensor.begin, tensor.end) for tensor in tensors.values()):
        if begin != end:
            raise ModelRefused(
                f"{path}: its tensors overlap or leave holes at byte {end:,}; convert it again"
            )
        end = after
    return end
