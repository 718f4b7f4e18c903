"""What a prompt is read into, with a small vocabulary of our own."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.scene import COLOURS
from engine.scene_reader import MOST_THINGS, Scene, read_scene
from engine.vocabulary import GENERAL, KIND_OF, SAME_AS, Meaning, Sayings, Vocabulary

NAMES = ("dog", "cat", "car", "red apple", "green apple", "tangerine", "glass of milk", "top hat",
         "fork and knife", "full moon", "house", "four leaf clover")  # fmt: skip
LISTED = {
    "beagle": ("dog", KIND_OF), "animal": ("dog", GENERAL), "automobile": ("car", SAME_AS),
    "apple": ("red apple", KIND_OF), "orange": ("tangerine", SAME_AS), "glass": ("house", KIND_OF),
    "hat": ("top hat", GENERAL), "moon": ("full moon", SAME_AS), "milk": ("cat", KIND_OF),
    "blue cat": ("tangerine", KIND_OF), "red dog": ("dog", KIND_OF),
}  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    phrases = {name: Meaning(row, SAME_AS) for row, name in enumerate(NAMES)}
    phrases |= {word: Meaning(NAMES.index(n), how) for word, (n, how) in LISTED.items()}
    said = np.eye(len(NAMES), 384, dtype="f4")
    sayings = Sayings(said, np.arange(len(NAMES)), said)
    return Vocabulary(NAMES, (True,) * len(NAMES), phrases, sayings)


def told(scene: Scene) -> list[tuple[str, str, int]]:
    return [
        (
            NAMES[thing.meaning.concept] if thing.meaning else thing.text,
            COLOURS[thing.colour] if thing.colour >= 0 else "",
            thing.count,
        )
        for thing in scene.things
    ]


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("a dog", [("dog", "", 1)]),
        ("A picture of a small dog, please", [("dog", "", 1)]),
        ("a watercolour of a house", [("house", "", 1)]),
        ("An oil painting of two cats", [("cat", "", 2)]),
        ("pixel art of a blue car", [("car", "blue", 1)]),
        ("a dog in watercolour", [("dog", "", 1)]),
        ("a house, digital art style", [("house", "", 1)]),
        ("a h\u00f4use", [("house", "", 1)]),
        ("two cats", [("cat", "", 2)]),
        ("five cats", [("cat", "", 3)]),
        ("a four leaf clover", [("four leaf clover", "", 1)]),
        ("a blue automobile", [("car", "blue", 1)]),
        ("a car in dark blue", [("car", "dark blue", 1)]),
        ("a red apple", [("red apple", "", 1)]),
        ("a blue apple", [("red apple", "blue", 1)]),
        ("an orange", [("tangerine", "", 1)]),
        ("an orange cat", [("cat", "orange", 1)]),
        ("a blue cat", [("cat", "blue", 1)]),
        ("a red dog", [("dog", "", 1)]),
        ("a glass of milk", [("glass of milk", "", 1)]),
        ("a fork and knife", [("fork and knife", "", 1)]),
        ("a black and white dog", [("dog", "white", 1)]),
        ("a dog and a cat", [("dog", "", 1), ("cat", "", 1)]),
        ("a navy dog next to a gray cat", [("dog", "dark blue", 1), ("cat", "grey", 1)]),
        ("a dog on vacation", [("dog", "", 1)]),
        ("a dog in a house", [("dog", "", 1), ("house", "", 1)]),
        ("a dog, a cat, a car and a house", [("dog", "", 1), ("cat", "", 1), ("car", "", 1)]),
        ("three dogs and a cat", [("dog", "", 2), ("cat", "", 1)]),
        ("something odd", [("something odd", "", 1)]),
        ("", [("", "", 1)]),
    ],
)
def test_things(prompt: str, things: list[tuple[str, str, int]], vocabulary: Vocabulary) -> None:
    assert told(read_scene(prompt, vocabulary)) == things


@pytest.mark.parametrize(
    ("prompt", "background"),
    [
        ("a dog on a blue background", "blue"),
        ("a dog, dark green background", "dark green"),
        ("a dog, make the background light blue", "light blue"),
        ("a dog against a turquoise backdrop", "teal"),
        ("a dog on yellow", "yellow"),
        ("a yellow dog", None),
        ("a dog on a house", None),
    ],
)
def test_backgrounds(prompt: str, background: str | None, vocabulary: Vocabulary) -> None:
    scene = read_scene(prompt, vocabulary)
    assert scene.background == (None if background is None else COLOURS.index(background))
    assert told(scene)[0][0] == "dog"


@pytest.mark.parametrize(
    ("prompt", "look", "place", "relation", "small"),
    [
        ("a cartoon dog", 1, None, "", False),
        ("a 3D render of a dog", 2, None, "", False),
        ("a dog, flat style", 0, None, "", False),
        ("a dog in the top left corner", None, (0, 0), "", False),
        ("a dog at the bottom", None, (1, 2), "", False),
        ("a dog in the middle", None, (1, 1), "", False),
        ("a tiny dog", None, None, "", True),
        ("a dog to the left of a cat", None, None, "left", False),
        ("a dog to the right of a cat", None, None, "right", False),
        ("a dog above a cat", None, None, "above", False),
        ("a dog under a cat", None, None, "below", False),
        ("a dog with a cat", None, None, "anyhow", False),
    ],
)
def test_how_it_stands(
    prompt: str,
    look: int | None,
    place: tuple[int, int] | None,
    relation: str,
    small: bool,
    vocabulary: Vocabulary,
) -> None:
    scene = read_scene(prompt, vocabulary)
    found = scene.look, scene.place, scene.relation, scene.small
    assert found == (look, place, relation, small)


@pytest.mark.parametrize(
    ("prompt", "sure"),
    [
        ("a dog", True),
        ("two blue dogs", True),
        ("a happy dog", False),
        ("a dog that barks all day long", False),
        ("a beagle", True),
        ("a beagle that barks all day", False),
        ("an animal", False),
        ("a farm animal", False),
        ("a hat with a green feather", False),
    ],
)
def test_a_description_says_more_than_a_listed_word(
    prompt: str, sure: bool, vocabulary: Vocabulary
) -> None:
    (thing,) = read_scene(prompt, vocabulary).things
    assert thing.sure == sure


@given(st.text(max_size=400))
def test_any_text_is_read(prompt: str) -> None:
    said = np.ones((1, 384), dtype="f4")
    words = Vocabulary(("dog",), (True,), {}, Sayings(said, np.arange(1), said))
    scene = read_scene(prompt, words)
    assert 1 <= sum(thing.count for thing in scene.things) <= MOST_THINGS


def test_a_long_prompt_is_read_in_linear_time(vocabulary: Vocabulary) -> None:
    """Only its first words count; finding them must not depend on the rest."""
    spent = []
    for length in (4_000, 32_000):
        began = time.process_time()
        for prompt in ("a dog and " * length, "-" * length, "'a" * length, "in the " * length):
            read_scene(prompt, vocabulary)
        spent.append(time.process_time() - began)
    assert spent[1] < 40 * spent[0] + 1


@pytest.mark.parametrize(
    ("prompt", "listed"),
    [
        ("a dog that barks, runs and bites", "dog"),
        ("a dog with a green feather and a bell", "dog"),
        ("please draw what a dog sleeps in", None),
        ("something that chases a cat", None),
        ("can you draw me a cat?", "cat"),
    ],
)
def test_a_clause_describes_one_thing(
    prompt: str, listed: str | None, vocabulary: Vocabulary
) -> None:
    (thing,) = read_scene(prompt, vocabulary).things
    found = None if thing.meaning is None else NAMES[thing.meaning.concept]
    assert found == listed


def test_the_nearest_concept_counts_the_list_in(vocabulary: Vocabulary) -> None:
    between = np.zeros(384, np.float32)
    between[[0, 1]] = 0.68, 0.73
    assert vocabulary.nearest(between) == 1
    assert vocabulary.nearest(between, Meaning(0, KIND_OF)) == 0
    assert vocabulary.nearest(between, Meaning(0, GENERAL)) == 1


def test_likeness_is_that_of_the_best_saying_and_of_the_whole() -> None:
    parts, wholes = np.eye(3, 384, dtype="f4"), np.eye(2, 384, dtype="f4")
    sayings = Sayings(parts, np.array([0, 0, 1]), wholes)
    asked = np.zeros((1, 384), np.float32)
    asked[0, :3] = 0.6, 0.0, 0.8
    np.testing.assert_allclose(sayings.likeness(asked), [[0.6, 0.4]], atol=1e-6)


def test_a_name_in_the_plural_comes_before_a_listed_word(vocabulary: Vocabulary) -> None:
    vocabulary.phrases["cats"] = Meaning(0, KIND_OF)  # as "butterflies" in the stomach
    assert vocabulary.find(("cats",)) == Meaning(NAMES.index("cat"), SAME_AS)
    del vocabulary.phrases["cats"]


@pytest.mark.parametrize("words", [("dogs",), ("glass", "of", "milk"), ("red", "apples")])
def test_plurals_are_found(words: tuple[str, ...], vocabulary: Vocabulary) -> None:
    assert vocabulary.find(words) is not None
