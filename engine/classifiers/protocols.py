"""What every classifier is: it scores, in batches, and decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.policy import Scores
from engine.prompt_encoder import Embeddings
from engine.render import Pixels


class PromptClassifier(Protocol):
    """Of prompts. Stateless after loading; burns CPU."""

    def score(self, prompts: Sequence[str], embeddings: Embeddings) -> list[Scores]:
        """Those of each prompt, in order. embeddings: [prompts, 384], see TextEncoder.embed."""


class ImageClassifier(Protocol):
    """Of pictures. Stateless after loading; burns CPU."""

    def score(self, pixels: Sequence[Pixels]) -> list[Scores]:
        """Those of each picture, in order; pictures of any size."""
