"""The stages around the decoders that take no time: encoder, screens and store."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.policy import Look
from engine.prompt_encoder import EncodedPrompt
from engine.render import Conditioning
from engine.verdict import Verdict
from jobs.request import ImageRequest

_EMBEDDINGS = np.zeros((1, 384), np.float16)
_WORDS = EncodedPrompt(Conditioning.from_numpy("", pooled=_EMBEDDINGS[0]), _EMBEDDINGS)


class Instant:
    """Encoder, classifier and postprocessor in one that take no time and find no harm."""

    async def encode(self, *_: Any) -> Any:
        """See Encoder and Postprocessor."""
        return _WORDS

    async def screen_prompt(self, words: object, embeddings: object, look: Look) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def screen_image(self, pixels: object, look: Look) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """See Postprocessor."""

    async def get(self, key: str) -> bytes | None:
        """See Postprocessor."""

    async def delete(self, key: str) -> None:
        """See Postprocessor."""


def wish(**fields: Any) -> ImageRequest:
    """A request for one image, not watched."""
    plain: dict[str, Any] = {
        "model": "paced", "prompt": "a red fox", "n": 1, "width": 128, "height": 128,
        "quality": "auto", "guidance": 2.0, "seed": 7, "watched": False,
    }  # fmt: skip
    return ImageRequest(**(plain | fields))
