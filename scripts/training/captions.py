"""What a training picture is called: names, synonyms, style, place and background in words."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.training.concepts import Concept

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (16, 16, 18),
    "grey": (150, 152, 158),
    "red": (222, 55, 50),
    "orange": (247, 140, 40),
    "yellow": (252, 213, 60),
    "green": (60, 165, 80),
    "dark green": (18, 84, 52),
    "light blue": (150, 210, 245),
    "blue": (45, 105, 220),
    "dark blue": (22, 38, 105),
    "purple": (130, 70, 190),
    "pink": (250, 160, 195),
    "brown": (125, 80, 50),
    "beige": (240, 226, 196),
    "teal": (25, 150, 150),
}
PLACES = (
    ("top left", "top", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom", "bottom right"),
)
STYLE_SHARES = {"flat": 0.62, "noto": 0.19, "3d": 0.19}
STYLE_WORDS = {
    "flat": ("{}", "{}", "{}", "{}", "{}", "{}", "{}", "{}, flat style"),
    "noto": ("a cartoon of {}", "{}, cartoon style", "a cartoon {bare}"),
    "3d": ("a 3D render of {}", "{}, 3D style", "a 3D {bare}"),
}
OPENINGS = (
    "{}",
    "{}",
    "{}",
    "a picture of {}",
    "an icon of {}",
    "an image of {}",
    "a drawing of {}",
)
NO_ARTICLE = re.compile(r"(s|bread|popcorn|sushi|spaghetti|cheese|corn|toilet paper|fire|butter)$")
SINGULAR_S = ("cactus", "octopus", "bus", "compass", "glass", "brontosaurus", "grass", "walrus")


@dataclass(frozen=True)
class Placed:
    """One object of a picture: sprite style, side in 1/96 of the picture and centre 0..2."""

    concept: int
    style: str
    small: bool = False
    column: int = 1
    row: int = 1


@dataclass(frozen=True)
class Scene:
    """A picture before it is drawn, and its caption."""

    caption: str
    background: str
    objects: tuple[Placed, ...]


def with_article(name: str) -> str:
    """`an apple`, `a dog`, `grapes`."""
    if NO_ARTICLE.search(name) and not name.endswith(SINGULAR_S):
        return name
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


@dataclass
class CaptionWriter:
    """Draws scenes and their captions; the same `rng` gives the same list."""

    concepts: Sequence[Concept]
    scenes: bool
    rng: random.Random
    order: list[int] = field(default_factory=list)

    def _next_concept(self) -> int:
        """Every concept equally often: a shuffled pass over all before any repeats."""
        if not self.order:
            self.order = list(range(len(self.concepts)))
            self.rng.shuffle(self.order)
        return self.order.pop()

    def _name(self, concept: Concept) -> str:
        if not concept.synonyms or self.rng.random() < 0.7:
            return concept.name
        words, weights = zip(*concept.synonyms, strict=True)
        return self.rng.choices(words, weights)[0]

    def scene(self) -> Scene:
        if self.scenes and self.rng.random() < 0.25:
            return self._pair()
        index = self._next_concept()
        style = self.rng.choices(tuple(STYLE_SHARES), tuple(STYLE_SHARES.values()))[0]
        bare = self._name(self.concepts[index])
        placed, place_words = self._place(index, style)
        subject = f"a small {bare}" if placed.small and self.rng.random() < 0.7 else bare
        subject = subject if subject != bare else with_article(bare)
        wording = self.rng.choice(STYLE_WORDS[style]).format(subject, bare=bare)
        wording = wording.replace("a 3D a ", "a 3D ")
        if style == "flat":
            wording = self.rng.choice(OPENINGS).format(wording)
        if self.rng.random() < 0.15:
            wording = wording.replace(with_article(bare), bare)
        background, background_words = self._background()
        return Scene(wording + place_words + background_words, background, (placed,))

    def _place(self, index: int, style: str) -> tuple[Placed, str]:
        if self.rng.random() < 0.84:
            return Placed(index, style), ""
        column, row = self.rng.randrange(3), self.rng.randrange(3)
        placed = Placed(index, style, True, column, row)
        return placed, f" in the {PLACES[row][column]}"

    def _background(self) -> tuple[str, str]:
        if self.rng.random() < 0.55:
            return "white", " on a white background" if self.rng.random() < 0.12 else ""
        colour = self.rng.choice(tuple(BACKGROUNDS))
        return colour, self.rng.choice((" on a {} background", ", {} background")).format(colour)

    def _pair(self) -> Scene:
        first, second = self._next_concept(), self._next_concept()
        style = self.rng.choices(tuple(STYLE_SHARES), tuple(STYLE_SHARES.values()))[0]
        names = [with_article(self._name(self.concepts[i])) for i in (first, second)]
        relation, here, there = self.rng.choice(
            (
                ("to the left of", (0, 1), (2, 1)),
                ("to the right of", (2, 1), (0, 1)),
                ("next to", (0, 1), (2, 1)),
                ("above", (1, 0), (1, 2)),
                ("below", (1, 2), (1, 0)),
            )
        )
        wording = self.rng.choice(STYLE_WORDS[style][:2] if style != "flat" else ("{}",))
        wording = wording.format(f"{names[0]} {relation} {names[1]}")
        background, words = self._background()
        objects = tuple(
            Placed(index, style, True, *spot) for index, spot in ((first, here), (second, there))
        )
        return Scene(wording + words, background, objects)


def held_out_words(paraphrases: Path) -> frozenset[str]:
    """Words in [brackets] of the paraphrase file: no caption may hold any of them."""
    text = "\n".join(
        line for line in paraphrases.read_text().splitlines() if not line.startswith("#")
    )
    return frozenset(word.lower() for word in re.findall(r"\[([^\]]+)\]", text))


def mentions(text: str, words: Iterable[str]) -> bool:
    """Whether any of `words` (or its plural) stands in `text`."""
    parts = set(re.findall(r"[a-z0-9]+", text.lower()))
    singular = {part.removesuffix("s") for part in parts}
    return any(word in parts or word.removesuffix("s") in singular for word in words)
