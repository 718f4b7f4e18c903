"""Says in words what a scene shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.scene import COLOURS, LOOKS, SceneCodes
from engine.scene_words import ABOVE, BELOW, LEFT, RIGHT

_NUMBERS = ("", "", "two ", "three ")
_PLACES = {
    (0, 0): "in the top left corner", (1, 0): "at the top", (2, 0): "in the top right corner",
    (0, 1): "on the left", (1, 1): "in the middle", (2, 1): "on the right",
    (0, 2): "in the bottom left corner", (1, 2): "at the bottom",
    (2, 2): "in the bottom right corner",
}  # fmt: skip
_JOINTS = {LEFT: "to the left of", RIGHT: "to the right of", ABOVE: "above", BELOW: "below"}
_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "wolf": "wolves", "leaf": "leaves", "knife": "knives",
    "ox": "oxen", "fish": "fish", "blowfish": "blowfish", "sheep": "sheep", "deer": "deer",
    "moose": "moose", "bison": "bison", "shrimp": "shrimp", "squid": "squid",
    "jellyfish": "jellyfish", "volcano": "volcanoes", "potato": "potatoes",
    "tomato": "tomatoes", "mosquito": "mosquitoes", "rhinoceros": "rhinoceroses", "dice": "dice",
    "snowman": "snowmen",
}  # fmt: skip
_UNCOUNTED = {
    "badminton", "bacon", "bowling", "bread", "broccoli", "butter", "camping", "cheese", "ice",
    "away", "construction", "coral", "corn", "custard", "dizzy", "dna", "fire", "fog", "foggy",
    "food", "garlic", "hockey", "lacrosse", "luggage", "milk", "money", "paper", "pong", "popcorn",
    "rice", "rolling", "sake", "salt", "skis", "soap", "spaghetti", "star-struck", "sushi",
    "thread", "unlocked", "way", "wood", "yarn", "zzz",
}  # fmt: skip
"""Last words of what takes neither an article nor a plural."""
_PLURAL = re.compile(r".{2,}[^sui]s")
_VOWEL = re.compile(r"(?!uni|eu|one)[aeiou]|hour|x-")
_BEHIND = re.compile(
    r" (?=(?:of|with|in|on|at|over|behind|without|"
    r"holding|showing|blowing|screaming|savoring|fluttering) )"
)
"""Before what says more of the thing that is named."""


def sentence(scene: SceneCodes, names: Sequence[str]) -> str:
    """Such as "a small dog in the top left corner on a blue background, 3D style". names: of the
    concepts, in order. What the scene leaves open is not said."""
    phrases = [_phrase(scene, names[concept], *how) for concept, *how in scene.things]
    pictured = sum(count for _, _, count in scene.things)
    joint = _JOINTS.get(scene.relation) if pictured == len(phrases) == 2 else None
    if joint:
        said = f"{phrases[0]} {joint} {phrases[1]}"
    else:
        said = " and ".join((*filter(None, (", ".join(phrases[:-1]),)), phrases[-1]))
    if scene.place is not None and pictured == 1:
        said += f" {_PLACES[scene.place]}"
    if scene.background >= 0:
        said += f" on {_with_article(f'{COLOURS[scene.background]} background')}"
    return said if scene.look < 0 else f"{said}, {LOOKS[scene.look]} style"


def _phrase(scene: SceneCodes, name: str, colour: int, count: int) -> str:
    """One sort of thing: "a blue apple" for a red apple in blue."""
    first, _, rest = name.partition(" ")
    if colour >= 0 and first in COLOURS and rest:
        name = rest
    head, *behind = _BEHIND.split(name, maxsplit=1)
    *before, last = head.split(" ")
    if colour >= 0:
        before.insert(0, COLOURS[colour])
    if scene.small and scene.things[0][2] == len(scene.things) == 1:
        before.insert(0, "small")
    singular = last.lower() not in _UNCOUNTED and (
        last in _IRREGULAR or not _PLURAL.fullmatch(last)
    )
    words = " ".join((*before, _plural(last) if singular and count > 1 else last, *behind))
    return _NUMBERS[count] + words if count > 1 or not singular else _with_article(words)


def _with_article(words: str) -> str:
    return f"{'an' if _VOWEL.match(words.lower()) else 'a'} {words}"


def _plural(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("s", "x", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeou":
        return f"{word[:-1]}ies"
    return f"{word}s"
