"""The stages beside the decoders, in the dispatcher's own process: an encoder, and screens whose
verdicts follow from what they see."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from engine.decoders.paced import PacedDecoder
from engine.picture import blend, encode, resize
from engine.render import Conditioning, RenderSpec
from jobs.ports import Screening
from jobs.request import ImageRequest
from scripts.chaos.edits import brought

OF_PICTURES = 29
"""One picture of so many is found bad, always the same ones."""


def conditioning_of(prompt: str) -> Conditioning:
    """A prompt as a decoder reads it: its letters, as numbers."""
    pooled = np.zeros(384, np.float16)
    letters = np.frombuffer(prompt.encode()[:384], np.uint8)
    pooled[: letters.size] = letters
    return Conditioning(pooled[None], pooled)


def is_bad(pixels: Any) -> bool:
    """The verdict on a picture."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest()
    return int.from_bytes(digest[:4], "little") % OF_PICTURES == 0


def file_of(request: ImageRequest, index: int) -> bytes:
    """What an undisturbed decoder makes of this image."""
    decoder = PacedDecoder(sleep=lambda _: None)
    canvas, source = (None, None) if request.source is None else brought(request.seed)
    render = decoder.begin(
        RenderSpec(
            "alone", conditioning_of(request.prompt), request.image_seed(index), request.passes,
            request.guidance, source=source,
        ),
        None,
    )  # fmt: skip
    for _ in range(request.passes):
        decoder.step([render])
    pixels = resize(decoder.finish(render), request.width, request.height)
    exact = pixels if canvas is None else blend(pixels, canvas)
    return encode(exact, request.output_format)


class Prompts:
    """See jobs.ports.Encoder."""

    async def encode(self, prompt: str) -> object:
        """See Encoder."""
        return conditioning_of(prompt)


class Verdicts:
    """See jobs.ports.Classifier: prompts with a bomb and one picture of so many are bad."""

    async def screen_prompt(self, prompt: str, conditioning: object) -> Screening:
        """See Classifier."""
        return Screening("bomb" in prompt, ("weapons",) if "bomb" in prompt else ())

    async def screen_image(self, pixels: object, moderation: str) -> Screening:
        """See Classifier."""
        bad = is_bad(pixels)
        return Screening(bad, ("weapons",) if bad else ())
