"""The word list of the prompt screen: text is brought to a plain form, then whole words are found.

It catches what a sentence embedding blurs: single symbols and spelling tricks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine.verdict import ScreenUnusable

# Letters of other scripts above the Latin ones they look like: Cyrillic, Greek, phonetic
# (a short cut of Unicode's confusables.txt).
_CONFUSABLES = str.maketrans(
    "аеорсухіјѕһԁԛԝмтвнкгӏαβεικνορτυχωηıłøđɑɡʟꜱᴀᴇ",
    "aeopcyxijshdqwmtbhkrlabeikvoptuxwnilodaglsae",
)
_LEET = str.maketrans("013457@$!|", "oieastasil")
_RUN = re.compile(r"(.)\1{2,}")
# Four or more letters that stand alone. Possessive (`++`, `}+`): what was read is not tried again.
_SPELLED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]++[^\W_](?![^\W_])){3,}+")
_MINOR_AGE = re.compile(r"\b(?:[1-9]|1[0-7])[\s-]*(?:y(?:ea)?rs?[\s-]*olds?|y[/.]?o)\b")
_GAP = re.compile(r"[\W_]+")
_LONGEST_EXPANSION = 4
_WORD = re.compile(r"[^\W_]+")
_SIGNS = re.compile(r"[\w@$!|]+")
_LETTER = re.compile(r"[a-z]")
_PAIR = ("minor-word", "sexual-word")
_ALLOW = "allow"
Words = tuple[str, ...]


def plain(text: str) -> str:
    """Lower-case Latin text: no accents, zero-width marks or look-alike letters, and words that
    were spelled "s p a c e d" joined. Digits stay what they are. At most four times as long."""
    return _SPELLED.sub(lambda match: _GAP.sub("", match[0]), "".join(map(_simple, text)))


@lru_cache(maxsize=8192)
def _simple(character: str) -> str:
    """One character in plain Latin. Characters are decomposed one by one, since normalising a text
    takes the square of its length where combining marks stand in the wrong order; and one that
    stands for a whole phrase (U+FDFA: 18 letters) is a gap: none of those is Latin."""
    folded = unicodedata.normalize("NFKD", character).casefold()
    decomposed = unicodedata.normalize("NFKD", folded)
    if len(decomposed) > _LONGEST_EXPANSION:
        return " "
    visible = "".join(c for c in decomposed if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    return visible.translate(_CONFUSABLES)


def _readings(simple: str) -> tuple[Words, Words, Words]:
    """How a plain text can be read: as it stands, with signs as letters ("sw4st1ka"), and with
    drawn-out letters shortened. Separate, since "kkk" and "1488" must survive."""
    letters = _SIGNS.sub(_unleet, simple)
    return _words(simple), _words(letters), _words(_RUN.sub(r"\1", letters))


def _unleet(word: re.Match[str]) -> str:
    return word[0].translate(_LEET) if _LETTER.search(word[0]) else word[0]


def _words(text: str) -> Words:
    return tuple(_WORD.findall(text))


@dataclass(frozen=True, slots=True)
class WordList:
    """Phrases of whole words with their sections, by the first word of each.

    A section is a category, one half of the pair rule (a minor-word and a sexual-word make
    `minors`), or `allow`: harmless phrases that are passed over ("naked mole rat").
    """

    phrases: Mapping[str, tuple[tuple[Words, str], ...]]

    @classmethod
    def load(cls, path: Path) -> WordList:
        """Read `section<TAB>phrase` lines; ScreenUnusable names the file and the line."""
        if not path.is_file():
            raise ScreenUnusable(path, "file", "missing")
        phrases: dict[str, list[tuple[Words, str]]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            section, tab, phrase = line.partition("\t")
            words = _words(plain(phrase))
            if not tab or not words:
                raise ScreenUnusable(path, f"line {number}", "expected section<TAB>phrase")
            phrases.setdefault(words[0], []).append((words, section))
        sections = {section for entries in phrases.values() for _, section in entries}
        for section in (*_PAIR, _ALLOW):
            if section not in sections:
                raise ScreenUnusable(path, section, "no phrase in this section")
        return cls({first: tuple(entries) for first, entries in phrases.items()})

    def find(self, prompt: str) -> frozenset[str]:
        """The categories whose words are in the prompt; empty when none. Linear in its length."""
        simple = plain(prompt)
        age: frozenset[str] = frozenset(_PAIR[:1] if _MINOR_AGE.search(simple) else ())
        found: set[str] = set()
        for words in _readings(simple):
            sections = self._sections(words) | age
            found |= sections - {*_PAIR}
            if sections.issuperset(_PAIR):
                found.add("minors")
        return frozenset(found)

    def _sections(self, words: Words) -> set[str]:
        found: set[str] = set()
        at = 0
        while at < len(words):
            here = [
                (len(phrase), section)
                for phrase, section in self.phrases.get(words[at], ())
                if words[at : at + len(phrase)] == phrase
            ]
            allowed = max((length for length, section in here if section == _ALLOW), default=0)
            if not allowed:
                found.update(section for _, section in here)
            at += allowed or 1
        return found
