"""Prompts that are built to take time or memory: what a matcher tries again, what a normaliser
makes longer or puts in order, what a tokenizer or a parser of numbers takes whole."""

from __future__ import annotations

MOST_CHARACTERS = 32_000
"""As long as a prompt may be."""


def _filled(unit: str, end: str = "") -> str:
    return unit * ((MOST_CHARACTERS - len(end)) // len(unit)) + end


ADVERSARIAL = {
    "a line to fill in": "Poster\n" + "_" * 44 + "title here",
    "underscores": _filled("_", "ab"),
    "spaced letters": _filled("a "),
    "letters beside underscores": _filled("a_ ", "ab"),
    "underscored letters": _filled("a_", "ab"),
    "spaced pairs": _filled("ab _"),
    "ligatures of 18 letters": _filled("\ufdfa"),
    "full-width letters": _filled("\uff53\uff45"),
    "combining marks out of order": "a" + _filled("\u0301\u0316")[:-2],
    "two long runs of combining marks": "a" + "\u0301" * 15_999 + "\u0316" * 16_000,
    "zero-width marks": _filled("\u200b\u200d"),
    "right-to-left marks": _filled("\u202e\u2067", "ab"),
    "digits": _filled("9"),
    "ages": _filled("17-", "year"),
    "signs for letters": _filled("4$!|"),
    "one word": _filled("a"),
    "listed beginnings": _filled("having "),
    "brackets": _filled("("),
    "line ends": _filled("\r\n"),
    "lone surrogates": _filled("\ud800"),
    "surrogate pairs": _filled("\U0001f54e\u200d"),
    "every letter once": "".join(map(chr, range(0x4E00, 0x4E00 + MOST_CHARACTERS))),
    "NUL": _filled("\0"),
}
"""What it is built of: the prompt."""
