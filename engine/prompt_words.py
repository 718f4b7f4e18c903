"""The word list of the prompt screen: whole words and phrases, found in disguise as well.

It catches what a sentence embedding blurs: single symbols, names, German words, spelling tricks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.disguise import LEET, decoded, folded, joined, simple, spelled
from engine.verdict import ScreenUnusable

_RUN = re.compile(r"(.)\1{2,}")
_MINOR_AGE = re.compile(
    r"\b(?:[1-9]|1[0-7])[\s-]*(?:y(?:ea)?rs?[\s-]*olds?|y[/.]?o|jahre alt|jahrige?[rsmn]?)\b"
)
_WORD = re.compile(r"[^\W_]+")
_SIGNS = re.compile(r"[\w@$!|€+]+")
_HIDDEN_LETTER = re.compile(r"(?<![a-z])[a-z]++[*#][a-z]++")
_LETTER = re.compile(r"[a-z]")
_MINOR, _WEAPON = "minor-word", "weapon-word"
_PAIRS = (
    (_MINOR, "sexual-word", "minors"),
    ("bare-word", "person-word", "sexual"),
    (_WEAPON, "threat-word", "weapons"),
)
_HALVES = frozenset(half for pair in _PAIRS for half in pair[:2])
_SETTINGS = ("threat-word", "person-word", "allow")
"""Sections of words that mean nothing by themselves, in disguise or not."""
_ALONE = {_WEAPON: ("weapons", 0.4)}
"""What half of a pair says by itself."""
_ALLOW = "allow"
_CERTAIN = 1.0
_LONGEST = 24
"""Letters of the longest beginning, and of the longest word that is looked for in a spelled run."""
_SHORTEST_IN_RUN = 5
_SHORTEST_HIDING = 4
Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Phrase:
    """Whole words, or the beginning of one word, with the section they stand in and their score."""

    words: Words
    section: str
    score: float = _CERTAIN
    beginning: bool = False


@dataclass(frozen=True, slots=True)
class WordList:
    """phrases: whole ones by their first word. beginnings: of words, by themselves. singles: those
    of one word; hiding: the same with any one inner letter as a star ("p*rn")."""

    phrases: Mapping[str, tuple[Phrase, ...]]
    beginnings: Mapping[str, tuple[Phrase, ...]]
    singles: Mapping[str, tuple[Phrase, ...]]
    hiding: Mapping[str, tuple[Phrase, ...]]

    @classmethod
    def load(cls, path: Path) -> WordList:
        """Read `section<TAB>phrase[<TAB>score]` lines; ScreenUnusable names the file and line."""
        if not path.is_file():
            raise ScreenUnusable(path, "file", "missing")
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        phrases = [_phrase(path, number, line) for number, line in lines
                   if line.strip() and not line.startswith("#")]  # fmt: skip
        sections = {phrase.section for phrase in phrases}
        for section in (*sorted(_HALVES), _ALLOW):
            if section not in sections:
                raise ScreenUnusable(path, section, "no phrase in this section")
        singles = [p for p in phrases if len(p.words) == 1 and p.section not in _SETTINGS]
        return cls(
            _grouped((p.words[0], p) for p in phrases if not p.beginning),
            _grouped((p.words[0], p) for p in phrases if p.beginning),
            _grouped((p.words[0], p) for p in singles),
            _grouped((hidden, p) for p in singles for hidden in _starred(p.words[0])),
        )

    def find(self, prompt: str) -> dict[str, float]:
        """The categories whose words are in the prompt, with the highest score of each; empty when
        there is none. A phrase that is found in disguise alone is certain: hiding it gives away
        how it is meant. Linear in the length of the prompt."""
        read = folded(prompt)
        letters = simple(prompt)
        aged = bool(_MINOR_AGE.search(joined(letters)))
        as_it_stands = frozenset(self._in(_words(read)))
        found = _scores(as_it_stands, frozenset(), aged)
        for reading in self._without_disguise(prompt, letters):
            hidden = reading - as_it_stands
            if hidden:
                for category, score in _scores(reading, hidden, aged).items():
                    found[category] = max(score, found.get(category, 0.0))
        return found

    def _without_disguise(self, prompt: str, letters: str) -> Iterator[frozenset[Phrase]]:
        """The phrases of each way to read the prompt; letters: it in simple ones."""
        texts = [joined(letters), *(simple(text) for text in decoded(prompt))]
        for words in {words for text in texts for words in _readings(text)}:
            yield frozenset(self._in(words))
        yield frozenset(phrase for run in spelled(letters) for phrase in self._in_run(run))
        masked = (word.replace("#", "*") for word in _HIDDEN_LETTER.findall(letters))
        yield frozenset(phrase for word in masked for phrase in self.hiding.get(word, ()))

    def _in(self, words: Words) -> Iterator[Phrase]:
        """Every phrase in a row of words, but for what stands inside an allowed one."""
        at = 0
        while at < len(words):
            here = [p for p in self.phrases.get(words[at], ())
                    if words[at : at + len(p.words)] == p.words]  # fmt: skip
            for length in range(3, min(len(words[at]), _LONGEST) + 1):
                here += self.beginnings.get(words[at][:length], ())
            allowed = max((len(p.words) for p in here if p.section == _ALLOW), default=0)
            if not allowed:
                yield from here
            at += allowed or 1

    def _in_run(self, run: str) -> Iterator[Phrase]:
        """Words in letters without spaces: behind an article, and longer ones at either end."""
        if run.startswith("a"):
            yield from self.singles.get(run[1:], ())
        for length in range(_SHORTEST_IN_RUN, min(len(run), _LONGEST) + 1):
            yield from self.singles.get(run[:length], ())
            yield from self.singles.get(run[-length:], ())


def _scores(phrases: frozenset[Phrase], hidden: frozenset[Phrase], aged: bool) -> dict[str, float]:
    """aged: whether the prompt names an age below 18."""
    found: dict[str, float] = {}
    for phrase in phrases:
        category, score = _ALONE.get(phrase.section, (phrase.section, phrase.score))
        if category not in _HALVES:
            score = _CERTAIN if phrase in hidden else score
            found[category] = max(score, found.get(category, 0.0))
    sections = {phrase.section for phrase in phrases} | ({_MINOR} if aged else set())
    return found | {category: _CERTAIN for one, other, category in _PAIRS
                    if one in sections and other in sections}  # fmt: skip


def _phrase(path: Path, number: int, line: str) -> Phrase:
    section, _, rest = line.partition("\t")
    text, _, score = rest.partition("\t")
    words = _words(joined(simple(text)))
    beginning = text.endswith("*")
    if not words or (beginning and len(words) > 1):
        raise ScreenUnusable(path, f"line {number}", "expected section<TAB>phrase")
    try:
        value = float(score or _CERTAIN)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ScreenUnusable(path, f"line {number}", f"score {score!r} is not within 0..1")
    return Phrase(words, section, value, beginning)


def _grouped(pairs: Iterable[tuple[str, Phrase]]) -> dict[str, tuple[Phrase, ...]]:
    found = defaultdict[str, list[Phrase]](list)
    for key, phrase in pairs:
        found[key].append(phrase)
    return {key: tuple(phrases) for key, phrases in found.items()}


def _starred(word: str) -> Iterator[str]:
    if len(word) >= _SHORTEST_HIDING:
        yield from (f"{word[:i]}*{word[i + 1 :]}" for i in range(1, len(word) - 1))


def _readings(text: str) -> set[Words]:
    """How a text can be read: as it stands, with signs as letters ("sw4st1ka"), and with drawn-out
    letters shortened. Separate, since "kkk" and "1488" must survive."""
    letters = [_SIGNS.sub(partial(_unleet, to), text) for to in LEET]
    texts = [text, *letters, _RUN.sub(r"\1", letters[0]), _RUN.sub(r"\1\1", letters[0])]
    return {_words(one) for one in texts}


def _unleet(letters: Mapping[int, int], word: re.Match[str]) -> str:
    return word[0].translate(letters) if _LETTER.search(word[0]) else word[0]


def _words(text: str) -> Words:
    return tuple(_WORD.findall(text))
