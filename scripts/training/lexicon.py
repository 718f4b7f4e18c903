"""Which words mean which concept: names, tags of the emoji, and WordNet's synonyms, kinds and
relatives. Where several may be meant, what WordNet says of the word decides, by its likeness to
what it says of the concepts. What is not listed is looked up by its embedding while the model runs;
see engine/vocabulary.py."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from scripts.training.concepts import Concept
from scripts.training.wordnet import ANIMAL, ARTIFACT, FOOD, PLANT, THINGS, Synset, WordNet

SAME, SORT, STEP, SIDEWAYS = 1.0, 2.0, 1.0, 2.0
"""Costs in WordNet: of what the concept is, of what it is a sort of (an apple may be a red apple),
of a step to something more general, and of going down from there to a relative."""
UP, DOWN, MOST = 5, 3, 9.0
"""Steps up and down, and the highest cost of a path."""
TOO_GENERAL = 400
"""Kinds below a synset beyond which two of them have nothing to do with each other."""
SORTS = 40
"""Kinds below a synset beyond which it is too general to be called by one of them."""
HEARTS = 14
"""The subgroup of hearts of every colour."""
SAME_AS, KIND_OF, GENERAL = "=", "~", "?"
"""How a word stands to its concept: means just that; means something near it; is more general."""
_WORD = re.compile(r"[a-z][a-z' -]{1,28}")


@dataclass(frozen=True, slots=True)
class Path:
    """From a synset to a concept in WordNet."""

    cost: float
    how: str


def kinds_of_group(concept: Concept) -> frozenset[int]:
    """The lexicographer files in which a concept's meaning stands, by its kind of emoji."""
    if 34 <= concept.subgroup <= 39:
        return frozenset({ANIMAL})
    if 40 <= concept.subgroup <= 41:
        return frozenset({PLANT, 8, FOOD})
    if 42 <= concept.subgroup <= 47:
        return frozenset({FOOD, PLANT})
    if concept.subgroup < 16:
        return frozenset({8, ARTIFACT})
    return frozenset(THINGS - {ANIMAL, FOOD, PLANT} | {PLANT})


def synset_of(concept: Concept, wordnet: WordNet) -> Synset | None:
    """Its meaning: the commonest of the right kind."""
    allowed = kinds_of_group(concept)
    name = concept.name.lower()
    for word in (name, *_bare(concept), *singulars(name)):
        for offset in wordnet.senses.get(word, ()):
            if wordnet.synsets[offset].lexname in allowed:
                return wordnet.synsets[offset]
    return None


def head_of(concept: Concept, wordnet: WordNet) -> Synset | None:
    """What it is a sort of, by the last word of its name: an apple of a red apple."""
    allowed = kinds_of_group(concept)
    last = concept.name.lower().rpartition(" ")[2]
    for word in (last, *singulars(last)):
        for offset in wordnet.senses.get(word, ()):
            synset = wordnet.synsets[offset]
            if concept.subgroup >= 16 and synset.lexname in allowed:
                return synset if _size(offset, wordnet) < SORTS else None
    return None


def _bare(concept: Concept) -> tuple[str, ...]:
    """An animal's name without its face."""
    found = re.sub(r" face$", "", concept.name.lower())
    return (found,) if 34 <= concept.subgroup <= 39 else ()


def singulars(word: str) -> tuple[str, ...]:
    """What the word may be the plural of."""
    if word.endswith("ies"):
        return (word[:-3] + "y", word[:-1])
    if word.endswith(("ses", "xes", "shes", "ches", "oes")):
        return (word[:-2], word[:-1])
    if word.endswith("ves"):
        return (word[:-3] + "f", word[:-3] + "fe", word[:-1])
    return (word[:-1],) if word.endswith("s") and not word.endswith("ss") else ()


def homes(concepts: Sequence[Concept], wordnet: WordNet) -> dict[str, tuple[int, float]]:
    """Where concepts stand in WordNet: by offset the row, and what standing there costs. By their
    own names first, then what is left by what they are sorts of; no two in one place."""
    found: dict[str, tuple[int, float]] = {}
    placed = set[int]()
    for place, cost in ((synset_of, SAME), (head_of, SORT)):
        for row, concept in enumerate(concepts):
            synset = None if row in placed else place(concept, wordnet)
            if synset is not None and synset.offset not in found:
                found[synset.offset] = row, cost
                placed.add(row)
    return found


def own_words(concept: Concept) -> Iterator[str]:
    """That name it and nothing else."""
    for word in (concept.name.lower(), *_bare(concept)):
        if _WORD.fullmatch(word):
            yield word


def said_of_one(concepts: Sequence[Concept]) -> Iterator[tuple[str, int]]:
    """Sayings of one or two words that only one concept has, with its row."""
    rows = defaultdict[str, set[int]](set)
    for row, concept in enumerate(concepts):
        for saying in concept.sayings:
            rows[saying.lower()].add(row)
    for saying, found in rows.items():
        if len(found) == 1 and saying.count(" ") < 2 and _WORD.fullmatch(saying):
            yield saying, found.pop()


def listed(synset: Synset) -> Iterator[str]:
    """Its words that a prompt may hold."""
    yield from (word for word in synset.words if _WORD.fullmatch(word))


def paths(
    offset: str, places: Mapping[str, tuple[int, float]], wordnet: WordNet
) -> dict[int, Path]:
    """The concepts that a synset is, or is a kind of, or the first of its kinds, or relatives."""
    found: dict[int, Path] = {}
    for up, synset in wordnet.above(offset, UP):
        if synset.offset in places:
            row, cost = places[synset.offset]
            how = SAME_AS if not up and cost == SAME else KIND_OF
            found.setdefault(row, Path(cost + STEP * up, how))
            return found
        if up and (found or _size(synset.offset, wordnet) > TOO_GENERAL):
            continue
        kinds = [places[k.offset][0] for _, k in wordnet.below(synset.offset, DOWN)
                 if k.offset in places]  # fmt: skip
        cost = SAME + STEP * up + SIDEWAYS
        if kinds and cost <= MOST:  # the list begins with what is drawn most often
            found.setdefault(min(kinds), Path(cost, KIND_OF if up else GENERAL))
    return found


_sizes: dict[str, int] = {}


def _size(offset: str, wordnet: WordNet) -> int:
    if offset not in _sizes:
        _sizes[offset] = sum(1 for _ in wordnet.below(offset, 12))
    return _sizes[offset]
