"""The concepts that the model learns to draw, with their sprites' code points and synonyms."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TURNING = {*range(16), *range(34, 49), *range(50, 57), 59, 62, 65, 68, 78, 81}
"""emojibase's subgroups of things that have no left and right."""
SKIPPED_LABELS = {"oncoming automobile"}  # its name holds a word that a probe asks for
SKIPPED_GROUPS = {1, 2, 8, 9}  # people, components, symbols, flags


@dataclass(frozen=True)
class Concept:
    """hexcode: lower case, without variation selectors. subgroup: emojibase's number of its kind.
    synonyms: (words, weight). sayings: what people may say instead of its name; see sayings.txt."""

    name: str
    category: str
    hexcode: str
    subgroup: int
    synonyms: tuple[tuple[str, float], ...]
    sayings: tuple[str, ...]

    @property
    def turns(self) -> bool:
        """Whether it may be mirrored: no letters, no clocks, no flags."""
        return self.subgroup in TURNING


def plain(hexcode: str) -> str:
    return hexcode.lower().replace("-fe0f", "")


def listed() -> Iterator[tuple[str, str, str]]:
    """(name, category, label) of every line of concepts.txt."""
    category = ""
    for line in (HERE / "concepts.txt").read_text().splitlines():
        if line.startswith("["):
            category = line.strip("[] ")
        elif line and not line.startswith("#"):
            name, _, label = (part.strip() for part in line.partition("="))
            yield name, category, label or name


def _sayings() -> dict[str, tuple[str, ...]]:
    """By the names of concepts."""
    lines = (HERE / "sayings.txt").read_text(encoding="utf-8").splitlines()
    said = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {name: tuple(rest.split("; ")) for name, _, rest in said}


def _wanted(labels: dict[str, dict[str, Any]], drawn: set[str]) -> list[tuple[str, str, str]]:
    """(name, category, label) from concepts.txt, and all the rest that has a sprite."""
    wanted = list(listed())
    taken = {label for _, _, label in wanted}
    names = {name for name, _, _ in wanted}
    rest = (e for e in labels.values() if e.get("group") not in SKIPPED_GROUPS | {None})
    return wanted + [
        (e["label"], "more", e["label"])
        for e in rest
        if e["label"] not in taken | names | SKIPPED_LABELS
        and plain(e["hexcode"]) in drawn
        and not re.search(r"clock$|-thirty", e["label"])
    ]


def _words(entry: dict[str, Any], keywords: dict[str, list[str]]) -> set[str]:
    found = set(entry.get("tags", ())) | set(keywords.get(entry["emoji"], ()))
    found |= set(keywords.get(entry["emoji"].rstrip("\ufe0f"), ()))
    tidy = {word.replace("_", " ").strip().lower() for word in found}
    return {w for w in tidy if re.fullmatch(r"[a-z][a-z -]{2,20}", w) and w.count(" ") < 3}


def load(packages: dict[str, Path], banned: Callable[[str], bool]) -> list[Concept]:
    """All concepts. `banned` says which words no synonym may hold.
    A synonym weighs less the more concepts share it; one shared by more than four says nothing."""
    entries = json.loads((packages["labels"] / "en" / "data.json").read_text())
    keywords = json.loads((packages["keywords"] / "dist" / "emoji-en-US.json").read_text())
    labels = {entry["label"]: entry for entry in entries}
    chars = json.loads((packages["flat"] / "chars.json").read_text())
    wanted = _wanted(labels, {plain(code) for code in chars})
    names = {name.lower() for name, _, _ in wanted}
    words = {name: _words(labels[label], keywords) for name, _, label in wanted}
    tags = {name: set(labels[label].get("tags", ())) for name, _, label in wanted}
    shared = Counter(word for found in words.values() for word in found)
    concepts, sayings = [], _sayings()
    for name, category, label in wanted:
        synonyms = tuple(
            (word, (1.0 if word in tags[name] else 0.25) / shared[word] ** 2)
            for word in sorted(words[name])
            if shared[word] <= 4 and word not in names and not banned(word)
        )
        entry = labels[label]
        code, said = plain(entry["hexcode"]), sayings.get(name, ())
        concepts.append(Concept(name, category, code, entry["subgroup"], synonyms, said))
    return concepts
