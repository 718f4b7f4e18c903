"""Which thing that the embedded model can draw a word means: by a list made of names, tags and
WordNet, and for words that are not in it by the nearest embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.prompt_screen import unit
from engine.text import WeightsError
from engine.weights import WeightsFolder

LONGEST = 5
"""Words of the longest phrase that is looked up."""
SAME_AS, KIND_OF, GENERAL = "=", "~", "?"
"""How a word stands to its concept: means just that; means something near it; is more general."""
WORTH = {SAME_AS: 0.2, KIND_OF: 0.1, GENERAL: 0.0}
"""What the list's word for it is worth to a concept beside a likeness of embeddings."""
_PLURALS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of a listed word. concept: its row. how: see SAME_AS."""

    concept: int
    how: str


@dataclass(frozen=True)
class Sayings:
    """Embeddings, float32 of length 1, of what is said of the concepts. parts: [rows, 384], each
    saying alone, with its concept in rows, rising. wholes: [concepts, 384], all of a concept's."""

    parts: Floats
    rows: NDArray[np.int64]
    wholes: Floats

    def likeness(self, vectors: Floats) -> Floats:
        """How like texts are to concepts, [texts, concepts], -1 to 1: the mean of the likeliest
        saying and of the whole. vectors: of the texts, [texts, 384], of length 1."""
        starts = np.flatnonzero(np.diff(self.rows, prepend=-1))
        best = np.maximum.reduceat(vectors @ self.parts.T, starts, axis=1)
        found: Floats = (best + vectors @ self.wholes.T) / 2
        return found


@dataclass(frozen=True)
class Vocabulary:
    """names, turns: of the concepts in order, and whether each may be mirrored. phrases: by the
    words, joined by blanks."""

    names: tuple[str, ...]
    turns: tuple[bool, ...]
    phrases: dict[str, Meaning]
    sayings: Sayings

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
            Sayings(
                unit(tensors["parts"].numpy()),
                tensors["rows"].numpy().astype(np.int64),
                unit(tensors["wholes"].numpy()),
            ),
        )

    def find(self, words: Sequence[str]) -> Meaning | None:
        """Of these words together, the last one as it is or in the singular; a name comes first."""
        phrase = " ".join(words)
        found = [self.phrases.get(phrase)]
        for ending, instead in _PLURALS:
            if phrase.endswith(ending) and len(words[-1]) > len(ending) + 1:
                found.append(self.phrases.get(phrase.removesuffix(ending) + instead))
        listed = [meaning for meaning in found if meaning is not None]
        return next((m for m in listed if m.how == SAME_AS), listed[0] if listed else None)

    def named(self, words: Sequence[str]) -> bool:
        """Whether these words together are a concept's own name."""
        found = self.phrases.get(" ".join(words))
        return found is not None and found.how == SAME_AS

    def nearest(self, embedding: NDArray[np.floating], listed: Meaning | None = None) -> int:
        """The concept that a text with this embedding, [384], is most like. listed: what the list
        says of the word that names it, if there is one."""
        score = self.sayings.likeness(unit(embedding[None]))[0]
        if listed is not None:
            score[listed.concept] += WORTH[listed.how]
        return int(np.argmax(score))


def encoder_identity(weights: WeightsFolder) -> str:
    """PromptEncoder.model of the scene encoder of these weights: their decoder reads what that has
    made, and nothing else. The last number grows when SceneCodes.arrays gives something else."""
    return f"scene:{weights.sha256('words')[:8]}{weights.sha256('meanings')[:8]}:1"


def _phrase(line: str) -> tuple[str, Meaning]:
    word, concept, how = line.split("\t")
    return word, Meaning(int(concept), how)
