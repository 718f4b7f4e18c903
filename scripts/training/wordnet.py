"""WordNet's nouns: which words mean what, and what is a kind of what. Princeton's licence; see
NOTICE."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ANIMAL, ARTIFACT, FOOD, PLANT = 5, 6, 13, 20
THINGS = {3, ANIMAL, ARTIFACT, 8, 9, FOOD, 15, 17, 19, PLANT, 21, 27, 28}
"""Lexicographer files of what can be drawn, from tops to times; people are not in it."""


@dataclass(frozen=True, slots=True)
class Synset:
    """offset: its id. lexname: the file it comes from. words: its lemmas, with blanks."""

    offset: str
    lexname: int
    words: tuple[str, ...]
    kinds_of: tuple[str, ...]
    gloss: str


@dataclass
class WordNet:
    """senses: offsets of a word's meanings, the commonest first. kinds: the inverse of kinds_of."""

    synsets: dict[str, Synset]
    senses: dict[str, tuple[str, ...]]
    kinds: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, folder: Path) -> WordNet:
        """From the `dict` folder."""
        synsets = {s.offset: s for s in map(_synset, _lines(folder / "data.noun"))}
        senses = dict(map(_sense, _lines(folder / "index.noun")))
        found = cls(synsets, senses)
        for synset in synsets.values():
            for above in synset.kinds_of:
                found.kinds[above].append(synset.offset)
        return found

    def above(self, offset: str, most: int) -> Iterator[tuple[int, Synset]]:
        """Itself and what it is a kind of, the nearest first, with their distance."""
        return self._reached(offset, most, lambda at: self.synsets[at].kinds_of)

    def below(self, offset: str, most: int) -> Iterator[tuple[int, Synset]]:
        """Itself and its kinds, the nearest first, with their distance."""
        return self._reached(offset, most, lambda at: self.kinds.get(at, ()))

    def _reached(self, offset, most, neighbours):  # type: ignore[no-untyped-def]
        seen, edge = {offset}, [offset]
        for distance in range(most + 1):
            for at in edge:
                yield distance, self.synsets[at]
            edge = [n for at in edge for n in neighbours(at) if n in self.synsets]
            edge = [n for n in dict.fromkeys(edge) if n not in seen]
            seen.update(edge)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        yield from (line for line in lines if not line.startswith("  "))


def _synset(line: str) -> Synset:
    head, _, gloss = line.partition("|")
    parts = head.split()
    count = int(parts[3], 16)
    words = tuple(parts[4 + 2 * i].replace("_", " ").lower() for i in range(count))
    at = 4 + 2 * count
    pointers = [parts[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(parts[at]))]
    kinds_of = tuple(target for kind, target, _, _ in pointers if kind in ("@", "@i"))
    meaning = gloss.split(";")[0].split("(")[0] if not gloss.strip().startswith("(") else gloss
    return Synset(parts[0], int(parts[1]), words, kinds_of, meaning.strip())


def _sense(line: str) -> tuple[str, tuple[str, ...]]:
    parts = line.split()
    return parts[0].replace("_", " "), tuple(parts[-int(parts[2]) :])
