"""How one process of the bench draws, as it travels to that process. No tensors here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one process draws.

    options: of the decoder family. passes: of each quality. batch: renders in one static batch.
    rows_leave: a finished row leaves the tensors at once instead of riding to the batch's end.
    """

    family: str
    options: Mapping[str, Any]
    passes: Mapping[str, int]
    guidance: float
    screens: tuple[str, ...]
    threads: int = 1
    batch: int = 1
    rows_leave: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        return cls(**{**values, "screens": tuple(values["screens"])})

    def decoder_options(self) -> dict[str, Any]:
        """What the family is built with; paced has no threads."""
        own = {} if self.family == "paced" else {"threads": self.threads}
        return {**self.options, **own}
