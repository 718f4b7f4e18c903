"""The word list of the prompt screen: text is brought to a plain form, then whole words are found.

It catches what a sentence embedding blurs: single symbols and spelling tricks.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
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
_SPELLED = re.compile(r"(?<!\w)(?:\w[\W_]+){3,}\w(?!\w)")
_MINOR_AGE = re.compile(r"\b(?:[1-9]|1[0-7])[\s-]*(?:y(?:ea)?rs?[\s-]*olds?|y[/.]?o)\b")
_SECTIONS_OF_PAIRS = ("minor-word", "sexual-word")


def plain(text: str) -> str:
    """Lower-case Latin text: no accents, zero-width marks or look-alike letters, and words that
    were spelled "s p a c e d" joined. Digits stay what they are."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    visible = "".join(c for c in decomposed if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    latin = visible.translate(_CONFUSABLES)
    return _SPELLED.sub(lambda match: re.sub(r"[\W_]+", "", match[0]), latin)


def _readings(simple: str) -> tuple[str, ...]:
    """How a plain text can be read: as it stands, with signs as letters ("sw4st1ka"), and with
    drawn-out letters shortened. Separate, since "kkk" and "1488" must survive."""
    letters = re.sub(r"[\w@$!|]+", _unleet, simple)
    return _words(simple), _words(letters), _words(_RUN.sub(r"\1", letters))


def _unleet(word: re.Match[str]) -> str:
    return word[0].translate(_LEET) if re.search(r"[a-z]", word[0]) else word[0]


def _words(text: str) -> str:
    """Words with one space between and around them, so that " word " finds whole words only."""
    return " " + " ".join(re.findall(r"[^\W_]+", text)) + " "


@dataclass(frozen=True, slots=True)
class WordList:
    """Phrases by category, plus the pair rule: a minor-word and a sexual-word make `minors`.

    allowed: harmless phrases that are struck out first ("naked mole rat").
    """

    phrases: tuple[tuple[str, str], ...]
    minor_words: tuple[str, ...]
    sexual_words: tuple[str, ...]
    allowed: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> WordList:
        """Read `section<TAB>phrase` lines; ScreenUnusable names the file and the line."""
        if not path.is_file():
            raise ScreenUnusable(path, "file", "missing")
        sections: dict[str, list[str]] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            section, tab, phrase = line.partition("\t")
            if not tab or not phrase.strip():
                raise ScreenUnusable(path, f"line {number}", "expected section<TAB>phrase")
            sections.setdefault(section, []).append(_words(plain(phrase)))
        for section in (*_SECTIONS_OF_PAIRS, "allow"):
            if section not in sections:
                raise ScreenUnusable(path, section, "no phrase in this section")
        minor, sexual = (tuple(sections.pop(name)) for name in _SECTIONS_OF_PAIRS)
        allowed = tuple(sections.pop("allow"))
        phrases = tuple((name, phrase) for name, list_ in sections.items() for phrase in list_)
        return cls(phrases, minor, sexual, allowed)

    def find(self, prompt: str) -> frozenset[str]:
        """The categories whose words are in the prompt; empty when none."""
        simple = plain(prompt)
        found: set[str] = set()
        for text in _readings(simple):
            for phrase in self.allowed:
                text = text.replace(phrase, " ")
            found |= {category for category, phrase in self.phrases if phrase in text}
            if self._sexualises_a_minor(simple, text):
                found.add("minors")
        return frozenset(found)

    def _sexualises_a_minor(self, simple: str, text: str) -> bool:
        minor = _MINOR_AGE.search(simple) or any(word in text for word in self.minor_words)
        return bool(minor) and any(word in text for word in self.sexual_words)
