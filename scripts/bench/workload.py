"""What every side of the bench is asked, the same prompts, pass counts and seeds in one order, and
how a process of it draws. No tensors here."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SIDE_PIXELS = 256
QUALITIES = ("low", "medium", "high", "xhigh", "max")
PROMPTS = (
    "a red apple", "a koala", "a rocket", "a green frog", "a slice of pizza", "a blue car",
    "a snowman", "a yellow banana", "a fox", "an umbrella", "a sunflower", "a guitar",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """One picture of SIDE_PIXELS x SIDE_PIXELS, as a PNG."""

    prompt: str
    passes: int
    seed: int


def body(number: int) -> dict[str, Any]:
    """The JSON of request `number`: its prompt and pass count are drawn from its number alone."""
    draw = random.Random(number)
    return {
        "prompt": draw.choice(PROMPTS),
        "quality": draw.choice(QUALITIES),
        "size": f"{SIDE_PIXELS}x{SIDE_PIXELS}",
        "seed": number,
    }


def ask_of(request: Mapping[str, Any], passes: Mapping[str, int]) -> Ask:
    """The same request without HTTP. passes: of each quality."""
    return Ask(request["prompt"], passes[request["quality"]], request["seed"])


def asks(first: int, count: int, passes: Mapping[str, int]) -> list[Ask]:
    """Requests first .. first + count - 1."""
    return [ask_of(body(number), passes) for number in range(first, first + count)]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one process draws, as it travels to that process.

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
