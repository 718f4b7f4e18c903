"""The stages around the decoders that take no time: encoder, screens and store."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.render import Conditioning
from engine.verdict import Verdict
from jobs.request import ImageRequest

_WORDS = Conditioning.from_numpy(
    "", tokens=np.zeros((1, 384), np.float16), pooled=np.zeros(384, np.float16)
)


class Instant:
    """Encoder, classifier and postprocessor in one that take no time and find no harm."""

    async def encode(self, *_: Any) -> Any:
        """See Encoder and Postprocessor."""
        return _WORDS

    async def screen_prompt(self, prompt: str, conditioning: object) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def screen_image(self, pixels: object, moderation: str) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """See Postprocessor."""


def wish(**fields: Any) -> ImageRequest:
    """A request for one image, not watched."""
    plain: dict[str, Any] = {
        "model": "paced", "prompt": "a red fox", "n": 1, "width": 128, "height": 128,
        "quality": "auto", "guidance": 2.0, "seed": 7, "watched": False,
    }  # fmt: skip
    return ImageRequest(**(plain | fields))
