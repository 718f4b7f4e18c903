"""What a scene shows is said in plain words."""

from __future__ import annotations

import pytest

from engine.scene import COLOURS, SceneCodes
from engine.scene_sentence import sentence

NAMES = (
    "dog", "octopus", "red apple", "glass of milk", "popcorn", "scissors", "fish", "unicorn",
    "wolf", "rhinoceros", "butterfly", "cloud with lightning and rain",
)  # fmt: skip
BLUE, RED = COLOURS.index("blue"), COLOURS.index("red")


def of(*names: str, count: int = 1, colour: int = -1) -> tuple[tuple[int, int, int], ...]:
    return tuple((NAMES.index(name), colour, count) for name in names)


@pytest.mark.parametrize(
    ("things", "said"),
    [
        (of("dog"), "a dog"),
        (of("octopus"), "an octopus"),
        (of("octopus", colour=RED), "a red octopus"),
        (of("unicorn"), "a unicorn"),
        (of("red apple"), "a red apple"),
        (of("red apple", colour=BLUE), "a blue apple"),
        (of("glass of milk", count=2), "two glasses of milk"),
        (of("popcorn"), "popcorn"),
        (of("popcorn", colour=BLUE), "blue popcorn"),
        (of("scissors"), "scissors"),
        (of("rhinoceros"), "a rhinoceros"),
        (of("fish", count=3), "three fish"),
        (of("wolf", count=2, colour=RED), "two red wolves"),
        (of("butterfly", count=2), "two butterflies"),
        (of("cloud with lightning and rain", count=2), "two clouds with lightning and rain"),
        (of("dog", "octopus"), "a dog and an octopus"),
        (of("dog", "octopus", "fish"), "a dog, an octopus and a fish"),
    ],
)
def test_things_with_their_counts_and_colours(
    things: tuple[tuple[int, int, int], ...], said: str
) -> None:
    assert sentence(SceneCodes(things), NAMES) == said


def test_where_they_stand_before_what_and_in_which_look() -> None:
    corner = SceneCodes(of("dog"), BLUE, 2, place=(0, 0), small=True)
    said = "a small dog in the top left corner on a blue background, 3D style"
    assert sentence(corner, NAMES) == said
    beside = SceneCodes(of("dog", "octopus"), COLOURS.index("orange"), relation="left")
    assert sentence(beside, NAMES) == "a dog to the left of an octopus on an orange background"


def test_what_is_not_drawn_is_not_said() -> None:
    """How things stand to each other and how large they are has no effect on three of them."""
    three = SceneCodes((*of("dog", count=2), *of("fish")), relation="above", small=True)
    assert sentence(three, NAMES) == "two dogs and a fish"
