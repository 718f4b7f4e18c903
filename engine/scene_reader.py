"""Reads a prompt into a Scene: what is to be seen, how many, in which colours, where and in which
look. Pure; it knows words and no network. Words that it does not know are handed back, to be
looked up by their embedding."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.scene import COLOURS
from engine.scene_words import (
    ARTICLES,
    BACKGROUND,
    CLAUSES,
    COLOUR_WORDS,
    CONTAINERS,
    COUNTS,
    DESCRIBING,
    FILLER,
    HOLLOW,
    LOOK_WORDS,
    MEDIA,
    OF,
    PLACE_ENDS,
    PLACES,
    PREPOSITIONS,
    RELATIONS,
    SIZES,
    SMILEYS,
)  # fmt: skip
from engine.vocabulary import GENERAL, KIND_OF, LONGEST, SAME_AS, Meaning, Vocabulary

MOST_WORDS = 64
"""Of a prompt that are read."""
MOST_THINGS = 3
FACE = "face"
TELLING = {SAME_AS: 0, KIND_OF: 0, GENERAL: -1}
"""How many more words a description may have before it says more than its listed word does."""
_TOKEN = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*|[,;.&+]")
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskedThing:
    """One sort of thing. words: as the prompt has it. colour: row in COLOURS, -1 for its own."""

    words: Words
    meaning: Meaning | None = None
    colour: int = -1
    count: int = 1
    more: int = 0
    """Words that say more of it than its name and colour."""

    @property
    def sure(self) -> bool:
        """Whether the list alone says what it is."""
        return self.meaning is not None and self.more <= TELLING[self.meaning.how]

    @property
    def named(self) -> bool:
        """Whether it is called by its own name."""
        return self.meaning is not None and self.meaning.how == SAME_AS

    @property
    def text(self) -> str:
        """To be looked up by its embedding."""
        return " ".join(self.words)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a prompt asks for. relation: how the second thing stands to the first, "" where nothing
    is said. place: (column, row), 0 to 2 each, of a single thing. look, background: None where
    nothing is said."""

    things: tuple[AskedThing, ...]
    background: int | None = None
    look: int | None = None
    relation: str = ""
    place: tuple[int, int] | None = None
    small: bool = False


def read_scene(prompt: str, vocabulary: Vocabulary) -> Scene:
    """At least one thing, whose meaning may be None."""
    folded = unicodedata.normalize("NFKD", prompt).lower().replace("\u2019", "'")
    plain = "".join(letter for letter in folded if not unicodedata.combining(letter))
    words = _without_medium(tuple(_TOKEN.findall(plain)[:MOST_WORDS]))
    background, words = _background(words)
    look, words = _look(words)
    place, words = _place(words)
    small = any(SIZES.get(word) for word in words)
    told = _told(words, vocabulary)
    things, relation = _things(words, vocabulary) if told is None else ([told], "")
    return Scene(_limited(things), background, look, relation, place, small)


def _without_medium(words: Words) -> Words:
    """ "an oil painting of a ship", "a ship in watercolour", "a ship, digital art": a ship."""
    if "of" in words and _is_medium(words[: words.index("of")]):
        words = words[words.index("of") + 1 :]
    for at in range(len(words) - 1, 0, -1):
        if words[at] in ("in", "as", ",") and _is_medium(words[at + 1 :]):
            return words[:at]
    return words


def _is_medium(words: Words) -> bool:
    others = [word for word in words if word not in MEDIA]
    known = FILLER | ARTICLES | {"style"}
    return len(others) < len(words) and all(word in known for word in others)


def _told(words: Words, vocabulary: Vocabulary) -> AskedThing | None:
    """What a clause describes: "a worm that will become a butterfly", "what you sleep in"; a name
    before it says what kind of thing. None where there is no clause."""
    start = next((i for i, w in enumerate(words) if w not in FILLER | ARTICLES), len(words))
    words = words[start:]
    at = next((i for i, w in enumerate(words) if w in CLAUSES or (not i and w in HOLLOW)), None)
    if at is None:
        return None
    head = _thing(words[:at], vocabulary)
    if head is None:
        return AskedThing(words, more=len(words))
    kind = None if head.meaning is None else replace(head.meaning, how=KIND_OF)
    return replace(head, words=words, meaning=kind, more=head.more + len(words) - at)


def _things(words: Words, vocabulary: Vocabulary) -> tuple[list[AskedThing], str]:
    """What is asked for, and how the first two stand to each other."""
    found, relation = list[AskedThing](), ""
    for part, joint in _parts(words, vocabulary):
        thing = _thing(part, vocabulary)
        if thing is None:
            continue
        if found and joint in DESCRIBING and not (found[-1].named and thing.named):
            found[-1] = _described(found[-1], (joint, *thing.words))
            continue  # "a pony with a horn", "a dog on vacation": one thing, described
        relation = relation or (RELATIONS[joint] if found and joint else "")
        found.append(thing)
    listed = [thing for thing in found if thing.meaning is not None]
    return listed or found[:1] or [AskedThing(words or ("",))], relation


def _described(thing: AskedThing, words: Words) -> AskedThing:
    """With more words that say what it is like."""
    return replace(thing, words=(*thing.words, *words), more=thing.more + len(words))


def _limited(things: Sequence[AskedThing]) -> tuple[AskedThing, ...]:
    """As many as a picture holds: first each once."""
    kept = list(things[:MOST_THINGS])
    room = MOST_THINGS - len(kept)
    for at, thing in enumerate(kept):
        more = min(thing.count - 1, room)
        kept[at] = replace(thing, count=1 + more)
        room -= more
    return tuple(kept)


def _colour_at(words: Words, at: int) -> tuple[int, int] | None:
    """(row in COLOURS, words it takes) of a colour that begins here."""
    for length in (2, 1):
        name = COLOUR_WORDS.get(" ".join(words[at : at + length]))
        if name is not None and at + length <= len(words):
            return COLOURS.index(name), length
    return None


def _background(words: Words) -> tuple[int | None, Words]:
    """The background's colour, and the words without what is said of it."""
    for at, word in enumerate(words):
        if word not in BACKGROUND:
            continue
        for start in range(max(0, at - 3), at):  # "on a dark blue background"
            colour = _colour_at(words, start)
            if colour is not None and start + colour[1] == at:
                return colour[0], _without(words, start, at + 1)
        for start in range(at + 1, min(len(words), at + 4)):  # "the background in dark blue"
            colour = _colour_at(words, start)
            if colour is not None:
                return colour[0], _without(words, at, start + colour[1])
        return None, _without(words, at, at + 1)
    for at in range(len(words) - 1):  # "a cat on blue"
        colour = _colour_at(words, at + 1) if words[at] in ("on", "against", "over") else None
        if colour is not None and at + 1 + colour[1] == len(words):
            return colour[0], words[:at]
    return None, words


def _without(words: Words, start: int, end: int) -> Words:
    """And without the preposition and article before."""
    while start and (words[start - 1] in ARTICLES or words[start - 1] in PREPOSITIONS):
        start -= 1
    return words[:start] + words[end:]


def _look(words: Words) -> tuple[int | None, Words]:
    look, left = None, list[str]()
    for word in words:
        if word in LOOK_WORDS:
            look = LOOK_WORDS[word]
        elif word not in ("style", "styled", "look", "render", "rendering", "rendered"):
            left.append(word)
        elif look is None and word.startswith("render"):
            look = 2
    return look, tuple(left)


def _place(words: Words) -> tuple[tuple[int, int] | None, Words]:
    """ "in the top left corner": where a single thing stands."""
    for at, word in enumerate(words):
        if word not in ("in", "at", "on") or words[at + 1 : at + 2] not in (("the",), ("upper",)):
            continue
        end, column, row, found = at + 1, 1, 1, False
        while end < len(words) and (words[end] in PLACES or words[end] in (*PLACE_ENDS, "the")):
            across, down = PLACES.get(words[end], (None, None))
            column, row = column if across is None else across, row if down is None else down
            found = found or words[end] in PLACES
            end += 1
        if found and words[end : end + 1] != ("of",):
            return (column, row), words[:at] + words[end:]
    return None, words


def _parts(words: Words, vocabulary: Vocabulary) -> list[tuple[Words, str]]:
    """The words between what joins things, each with what joins it to the part before."""
    parts: list[tuple[list[str], str]] = [([], "")]
    at = 0
    while at < len(words):
        whole = _longest(words, at, vocabulary)
        joint = _joint(words, at)
        if whole > 2 and any(word in RELATIONS for word in words[at : at + whole]):
            parts[-1][0].extend(words[at : at + whole])  # "fork and knife with plate" is one thing
            at += whole
        elif joint is None or (joint in ("in", "and") and _colour_at(words, at + 1)):
            parts[-1][0].append(words[at])
            at += 1
        else:
            parts.append(([], joint))
            at += joint.count(" ") + 1
    return [(tuple(part), joint) for part, joint in parts if part]


def _longest(words: Words, at: int, vocabulary: Vocabulary) -> int:
    for length in range(min(LONGEST + 1, len(words) - at), 0, -1):
        if vocabulary.find(words[at : at + length]) is not None:
            return length
    return 0


def _joint(words: Words, at: int) -> str | None:
    for length in (5, 4, 3, 2, 1):
        joint = " ".join(words[at : at + length])
        if joint in RELATIONS and at + length <= len(words):
            return joint
    return None


def _thing(part: Words, vocabulary: Vocabulary) -> AskedThing | None:
    """What a part of a prompt asks for; None for words that name nothing."""
    words = tuple(w for w in part if w not in ARTICLES and w not in SIZES)
    count = next((COUNTS[word] for word in words if word in COUNTS), 1)
    if vocabulary.named(words):
        count = 1  # "four leaf clover" is one thing
    else:
        words = tuple(w for w in words if w not in COUNTS)
    words = tuple(SMILEYS.get(w, w) for w in words if w not in FILLER)
    if vocabulary.find(words) is None:
        words = _contents(words)
    if not words:
        return None
    start, end, meaning = _named(words, vocabulary)
    if words[-1] == FACE and len(words) > 1 and end - start == 1:
        meaning = None  # which face, only all of its words say
    colour, at = -1, 0
    while at < len(words):
        found = None if start <= at < end else _colour_at(words, at)
        if found is not None and (at + found[1] <= start or at >= end):
            colour = found[0]
            at += found[1]
        else:
            at += 1
    more = [
        w for w in (*words[:start], *words[end:]) if w not in PREPOSITIONS | COLOUR_WORDS.keys()
    ]
    return AskedThing(words, meaning, colour, count, len(more))


def _contents(words: Words) -> Words:
    """ "bowl of soup" is a soup."""
    for at in range(len(words) - 2):
        if words[at] in CONTAINERS and words[at + 1] == "of":
            return words[:at] + words[at + 2 :]
    return words


def _named(words: Words, vocabulary: Vocabulary) -> tuple[int, int, Meaning | None]:
    """Where the thing is named: the longest phrase that is known, of those the last before a
    preposition; exact ones first. "a slice of cake" is a cake, "a cat of the house" is a cat."""
    stop = next((i for i, w in enumerate(words) if i and w in PREPOSITIONS), len(words))
    best: tuple[tuple[bool, bool, bool, int, int], int, int, Meaning] | None = None
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + LONGEST) + 1):
            inside = words[start:end]
            if all(word in COLOUR_WORDS or word in OF for word in inside) and end < len(words):
                continue
            meaning = vocabulary.find(inside)
            if meaning is None or inside[0] in PREPOSITIONS:
                continue
            if _recoloured(inside, meaning, vocabulary):
                continue
            exact = meaning.how == SAME_AS
            whole = exact and end - start > 2  # "glass of milk"
            key = (whole, end <= stop, exact or end - start > 1, end - start, end)
            if best is None or key > best[0]:
                best = (key, start, end, meaning)
    return (0, 0, None) if best is None else best[1:]


def _recoloured(words: Words, listed: Meaning, vocabulary: Vocabulary) -> bool:
    """Whether these words, which are listed, rather mean a named thing in a colour: "a blue cat" is
    no catfish. "A red fox" is listed as a fox, and stays one in its own colour."""
    colour = _colour_at(words, 0)
    if colour is None or listed.how == SAME_AS:
        return False
    thing = vocabulary.find(words[colour[1] :])
    return thing is not None and thing.how == SAME_AS and thing.concept != listed.concept
