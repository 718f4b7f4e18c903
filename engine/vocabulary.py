"""Which thing that the embedded model can draw a word means: by a list made of names, tags and
WordNet, and for words that are not in it by the nearest embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.text import WeightsError
from engine.weights import WeightsFolder

LONGEST = 5
"""Words of the longest phrase that is looked up."""
LISTED = 0.15
"""What the list's word for it is worth to a concept beside a cosine of embeddings."""
SAME_AS, KIND_OF, GENERAL = "=", "~", "?"
"""How a word stands to its concept: means just that; means something near it; is more general."""
_PLURALS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of a listed word. concept: its row. how: see SAME_AS."""

    concept: int
    how: str


def likeness(vectors: Floats, embeddings: Floats, rows: NDArray[np.int64]) -> Floats:
    """How like texts are to concepts, [texts, concepts], -1 to 1: the mean of a concept's likeliest
    row and of the mean of its rows. vectors: of the texts, [texts, 384], of length 1. rows: the
    concept of each row of embeddings, rising."""
    near = vectors @ embeddings.T
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    best = np.maximum.reduceat(near, starts, axis=1)
    mean = np.add.reduceat(near, starts, axis=1) / np.bincount(rows)
    return ((best + mean) / 2).astype(np.float32)


@dataclass(frozen=True)
class Vocabulary:
    """names, turns: of the concepts in order, and whether each may be mirrored. phrases: by the
    words, joined by blanks. embeddings: float32 [rows, 384] of length 1, with the concept of each
    row."""

    names: tuple[str, ...]
    turns: tuple[bool, ...]
    phrases: dict[str, Meaning]
    embeddings: NDArray[np.float32]
    rows: NDArray[np.int64]

    @classmethod
    def load(cls, weights: WeightsFolder) -> Vocabulary:
        """WeightsError names the file and field that is missing or wrong."""
        path = weights.path / "words.tsv"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != weights.sha256("words"):
            raise WeightsError(f"{path}: sha256 is not that of field files.words.sha256")
        tensors = weights.tensors("meanings")
        return cls(
            tuple(weights.field("concepts")),
            tuple(bool(turn) for turn in weights.field("turns")),
            dict(map(_phrase, data.decode().splitlines())),
            tensors["embeddings"].numpy(),
            tensors["rows"].numpy().astype(np.int64),
        )

    def find(self, words: Sequence[str]) -> Meaning | None:
        """Of these words together, the last one in the singular if need be."""
        phrase = " ".join(words)
        found = self.phrases.get(phrase)
        if found is not None:
            return found
        for ending, instead in _PLURALS:
            if phrase.endswith(ending) and len(words[-1]) > len(ending) + 1:
                found = self.phrases.get(phrase.removesuffix(ending) + instead)
                if found is not None:
                    return found
        return None

    def named(self, words: Sequence[str]) -> bool:
        """Whether these words together are a concept's own name."""
        found = self.phrases.get(" ".join(words))
        return found is not None and found.how == SAME_AS

    def nearest(self, embedding: NDArray[np.floating], listed: Meaning | None = None) -> int:
        """The concept that a text with this embedding, [384], is most like. listed: what the list
        says of its last word, if it says something near."""
        vector = embedding.astype(np.float32)
        vector = vector / max(1e-6, float(np.linalg.norm(vector)))
        score = likeness(vector[None], self.embeddings, self.rows)[0]
        if listed is not None and listed.how != GENERAL:
            score[listed.concept] += LISTED
        return int(np.argmax(score))


def _phrase(line: str) -> tuple[str, Meaning]:
    word, concept, how = line.split("\t")
    return word, Meaning(int(concept), how)
