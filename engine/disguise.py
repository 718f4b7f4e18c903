"""Text as a reader sees it: without look-alike letters, marks without width, leetspeak, spelled-out
words and encodings. Everything is linear in the length of the text.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from binascii import Error as NotBase64
from functools import lru_cache
from urllib.parse import unquote

# Letters of other scripts above the Latin ones they look like: Cyrillic, Greek, phonetic, Armenian
# (a short cut of Unicode's confusables.txt), after case folding.
_CONFUSABLES = str.maketrans(
    "аеорсухіјѕһԁԛԝмтвнкгӏвαβεικνορτυχωηγσμıłøđɑɡʟꜱᴀᴇʙᴄᴅɢʜɪᴊᴋᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢɩʋօոսցհӽզ",
    "aeopcyxijshdqwmtbhkrlbabeikvoptuxwnyouilodaglsaebcdghijkmnoprtuvwyzivonughxq",
)
_LEET_I = str.maketrans("0134567@$!|€+", "oieasgtasiiet")
_LEET_L = str.maketrans("0134567@$!|€+", "oleasgtasllet")
LEET = (_LEET_I, _LEET_L)
"""Digits and signs that stand for letters; 1 is an i or an l."""
# Three or more letters that stand alone. Possessive (`++`, `}+`): what was read is not tried again.
_SPELLED = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]++[^\W_](?![^\W_])){2,}+")
_GAP = re.compile(r"[\W_]+")
_LONGEST_EXPANSION = 4
_TOKEN = re.compile(r"\S+")
_MIXED = re.compile(r"[\w@$!|€+]+")
_ORDINARY = re.compile(r"\$?\d+[a-z]{0,3}|[a-z]+\d+", re.IGNORECASE)
"""What digits beside letters mean in earnest: 17th, 4k, 1980s, mp3."""
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{8,}")
_HEX = re.compile(r"(?:[0-9a-f]{2}){4,}", re.IGNORECASE)
_READABLE = re.compile(r"[A-Za-z0-9À-ÿ\s.,;:!?'\"()-]+")


def folded(text: str) -> str:
    """Lower case without accents. Marks without width and look-alikes stay what they are."""
    return "".join(map(_folded, text))


def simple(text: str) -> str:
    """Lower-case Latin text: no accents, marks without width or look-alike letters. Digits stay
    what they are. At most four times as long."""
    return "".join(map(_simple, text))


def plain(text: str) -> str:
    """The same, with words that were spelled "s p a c e d" joined."""
    return joined(simple(text))


def joined(text: str) -> str:
    """Words that were spelled letter by letter, as words; two spaces between letters part words."""
    return _SPELLED.sub(lambda match: _GAP.sub(_between, match[0]), text)


def spelled(text: str) -> list[str]:
    """The letters of each spelled-out run of a text, without anything between them."""
    return [_GAP.sub("", match[0]) for match in _SPELLED.finditer(text)]


def decoded(text: str) -> list[str]:
    """What words of the text say in base64, hexadecimal or percent encoding, where that is text."""
    found = [_readable(_from_base64(match[0])) for match in _ENCODED.finditer(text)]
    found += [_readable(bytes.fromhex(match[0])) for match in _HEX.finditer(text)]
    if "%" in text:
        found.append(unquote(text, errors="ignore"))
    return [words for words in found if words and words != text]


def undisguised(text: str) -> str:
    """What a text encoder should read: ordinary text as it is, disguised words in plain letters,
    and what is encoded behind it."""
    seen = _TOKEN.sub(_clear, joined(text))
    return " ".join((seen, *decoded(text)))


def _between(gap: re.Match[str]) -> str:
    return " " if len(gap[0]) > 1 and gap[0].isspace() else ""


def _clear(token: re.Match[str]) -> str:
    """A word without disguise. Accents stay, and so do words that hold letters of another script
    which look like none of ours."""
    word = token[0]
    if not all(map(_accented_latin, word)):
        letters = simple(word)
        word = letters if letters.isascii() else word
    return _MIXED.sub(_without_leet, word)


@lru_cache(maxsize=8192)
def _accented_latin(character: str) -> bool:
    return character == "ß" or unicodedata.normalize("NFD", character)[0].isascii()


def _without_leet(token: re.Match[str]) -> str:
    word = token[0]
    signs = sum(not letter.isalpha() for letter in word)
    if not 0 < signs < len(word) or _ORDINARY.fullmatch(word):
        return word
    letters = word.translate(_LEET_I)
    return letters if letters.isalpha() else word


def _from_base64(word: str) -> bytes:
    try:
        return base64.b64decode(_standard(word) + "=" * (-len(word) % 4))
    except NotBase64:
        return b""


def _standard(word: str) -> str:
    """Base64 for URLs has other signs for two of its digits."""
    return word.replace("-", "+").replace("_", "/")


def _readable(content: bytes) -> str:
    """The text that the bytes are, or "" where they are none."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return ""
    return text if len(text) > 2 and _READABLE.fullmatch(text) else ""


@lru_cache(maxsize=8192)
def _folded(character: str) -> str:
    """Characters are decomposed one by one, since normalising a text takes the square of its
    length where combining marks stand in the wrong order; and one that stands for a whole phrase
    (U+FDFA: 18 letters) is a gap: none of those is Latin."""
    lower = unicodedata.normalize("NFKD", character).casefold()
    decomposed = unicodedata.normalize("NFKD", lower)
    if len(decomposed) > _LONGEST_EXPANSION:
        return " "
    return "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Me"))


@lru_cache(maxsize=8192)
def _simple(character: str) -> str:
    visible = "".join(c for c in _folded(character) if unicodedata.category(c) != "Cf")
    return visible.translate(_CONFUSABLES)
