"""Which words the training must not read, so that a test may ask for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def held_out_words(paraphrases: Path) -> frozenset[str]:
    """Words in [brackets] of the paraphrase file: no name or tag of a concept may hold any."""
    text = "\n".join(
        line for line in paraphrases.read_text().splitlines() if not line.startswith("#")
    )
    return frozenset(word.lower() for word in re.findall(r"\[([^\]]+)\]", text))


def mentions(text: str, words: Iterable[str]) -> bool:
    """Whether any of `words` (or its plural) stands in `text`."""
    parts = set(re.findall(r"[a-z0-9]+", text.lower()))
    singular = {part.removesuffix("s") for part in parts}
    return any(word in parts or word.removesuffix("s") in singular for word in words)


NO_ARTICLE = re.compile(r"(s|bread|popcorn|sushi|spaghetti|cheese|corn|toilet paper|fire|butter)$")
SINGULAR_S = ("cactus", "octopus", "bus", "compass", "glass", "brontosaurus", "grass", "walrus")


def with_article(name: str) -> str:
    """`an apple`, `a dog`, `grapes`."""
    if NO_ARTICLE.search(name) and not name.endswith(SINGULAR_S):
        return name
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"
