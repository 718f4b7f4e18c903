"""What every side of the bench is asked: the same prompts, pass counts and seeds, in one order."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
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
