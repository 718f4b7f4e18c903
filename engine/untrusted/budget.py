"""What one untrusted picture may cost, and the refusal of one that is not taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Field = Literal["image", "mask", "markup"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one picture. photo_pixels: of a JPEG, which is decoded at a half, a quarter or an
    eighth of its size when it has more than `pixels`. cpu_seconds and wall_seconds are of one call
    (at most a picture with its mask and markup), memory_bytes is the address space of the process
    that decodes."""

    file_bytes: int = 64 * 2**20
    pixels: int = 4096 * 4096
    photo_pixels: int = 50_400_000
    edge_pixels: int = 10_000
    frames: int = 1
    cpu_seconds: int = 8
    wall_seconds: float = 30.0
    memory_bytes: int = 768 * 2**20


class Refused(ValueError):
    """A file that is not taken: which one, a short code for programs, a sentence for people."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.code = code
