"""What the shipped vocabulary is made of: the word list, and embeddings of every concept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.text import TextEncoder
from engine.vocabulary import Sayings
from scripts.training import lexicon
from scripts.training.concepts import Concept
from scripts.training.wordnet import THINGS, Synset, WordNet

LISTED, DEARER = 0.4, 0.06
"""What a path in WordNet is worth beside a cosine of embeddings, and how much less for each unit of
its cost."""
RARER, TAGGED = 0.12, 0.15
"""What each commoner meaning takes from a rarer one, and what a tag of the emoji gives."""
BLOCK = 512
SENSES = 3
"""Meanings of a word that are looked at."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Meanings:
    """lines: of words.tsv: a word, its concept and how it stands to it."""

    lines: tuple[str, ...]
    sayings: Sayings


def make_meanings(concepts: Sequence[Concept], packages: dict[str, Path]) -> Meanings:
    wordnet, encoder = WordNet.read(packages["wordnet"] / "dict"), TextEncoder()
    told = [told_of(concept, wordnet) for concept in concepts]
    synsets = [s for s in wordnet.synsets.values() if s.lexname in THINGS]
    vectors = embedded(encoder, [f"{s.words[0]}: {s.gloss}" for s in synsets])
    found = _words(concepts, wordnet, synsets, vectors, _dictionary(encoder, told))
    lines = tuple(f"{word}\t{row}\t{how}" for word, (row, how) in sorted(found.items()))
    return Meanings(lines, make_sayings(encoder, concepts, told))


def make_sayings(
    encoder: TextEncoder, concepts: Sequence[Concept], told: Sequence[Sequence[str]]
) -> Sayings:
    """What prompts are compared with. told: what is known of each concept; the sayings join it."""
    texts = [[*known, *c.sayings] for known, c in zip(told, concepts, strict=True)]
    parts = embedded(encoder, [text for one in texts for text in one])
    wholes = embedded(encoder, [f"{c.name}: {', '.join(c.sayings)}" for c in concepts])
    return Sayings(parts, _rows(texts), wholes)


def _dictionary(encoder: TextEncoder, told: Sequence[Sequence[str]]) -> Sayings:
    """What WordNet's explanations are compared with: no sayings, which are of another style."""
    parts, rows = embedded(encoder, [text for one in told for text in one]), _rows(told)
    means = np.stack([parts[rows == row].mean(axis=0) for row in range(len(told))])
    return Sayings(parts, rows, means)


def _rows(texts: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(texts)), [len(one) for one in texts])


def _words(
    concepts: Sequence[Concept],
    wordnet: WordNet,
    synsets: Sequence[Synset],
    vectors: Floats,
    sayings: Sayings,
) -> dict[str, tuple[int, str]]:
    """Word -> its concept and how it stands to it."""
    tagged = _tagged(concepts)
    places = lexicon.homes(concepts, wordnet)
    best: dict[str, tuple[float, int, str]] = {}
    blocks = (vectors[at : at + BLOCK] for at in range(0, len(vectors), BLOCK))
    scores = (score for block in blocks for score in sayings.likeness(block))
    for synset, score in zip(synsets, scores, strict=True):
        paths = lexicon.paths(synset.offset, places, wordnet)
        for row, path in paths.items():
            score[row] += max(0.0, LISTED - DEARER * path.cost)
        for word in lexicon.listed(synset):
            senses = wordnet.senses.get(word, (synset.offset,))
            rank = senses.index(synset.offset) if synset.offset in senses else SENSES
            if rank < SENSES:
                own = score.copy()
                for row in tagged.get(word, ()):
                    own[row] += TAGGED
                row = int(np.argmax(own))
                how = paths[row].how if row in paths else lexicon.KIND_OF
                how = lexicon.KIND_OF if rank and how == lexicon.SAME_AS else how
                best[word] = max(best.get(word, (-9.0, 0, "")), (own[row] - RARER * rank, row, how))
    found = {word: (rows_[0], lexicon.KIND_OF) for word, rows_ in tagged.items()}
    found |= {word: (row, how) for word, (_, row, how) in best.items()}
    for word, row in lexicon.said_of_one(concepts):
        if word not in found or found[word][1] != lexicon.SAME_AS:
            found[word] = row, lexicon.KIND_OF
    for row in reversed(range(len(concepts))):
        found |= dict.fromkeys(lexicon.own_words(concepts[row]), (row, lexicon.SAME_AS))
    return found


def _tagged(concepts: Sequence[Concept]) -> Mapping[str, list[int]]:
    """The concepts that have a word for a tag, the fitting first."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for row, concept in enumerate(concepts):
        for word, weight in concept.synonyms:
            found[word].append((-weight, row))
        if concept.subgroup == lexicon.HEARTS:
            found["heart"].append((0.0, row))
    return {word: [row for _, row in sorted(pairs)] for word, pairs in found.items()}


def told_of(concept: Concept, wordnet: WordNet) -> list[str]:
    """Its name, its name with tags, and what WordNet says of it."""
    best = sorted(concept.synonyms, key=lambda pair: -pair[1])[:6]
    said = [concept.name]
    if best:
        said.append(f"{concept.name}: {', '.join(word for word, _ in best)}")
    synset = lexicon.synset_of(concept, wordnet)
    if synset is not None:
        said.append(f"{concept.name}: {synset.gloss}")
    return said


def embedded(encoder: TextEncoder, texts: Sequence[str]) -> Floats:
    """[texts, 384] of length 1, in order."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = np.empty((len(texts), 384), np.float32)
    for start in range(0, len(order), 128):
        at = order[start : start + 128]
        found[at] = encoder.embed([texts[i] for i in at])
        if start % 6400 == 0:
            print(f"words {start}/{len(texts)}", flush=True)
    return found / np.linalg.norm(found, axis=1, keepdims=True)
