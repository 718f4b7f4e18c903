"""The PromptEncoder protocol: how one model family reads prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from engine.releases import between_releases
from engine.render import Conditioning, LoraUse, TensorBytes

Embeddings = NDArray[np.float16]
"""float16 [texts, 384]: what the prompt screen reads of PromptText.texts, see TextEncoder.embed."""


@between_releases
@dataclass(frozen=True, slots=True)
class PromptText:
    """The words of a request, and what they are about."""

    prompt: str
    negative: str | None = None
    """What the picture should not show."""
    loras: tuple[LoraUse, ...] = ()
    """Of the request: some change text encoders, too."""
    pictures: tuple[TensorBytes, ...] = ()
    """uint8 [height, width, 3] each, in order: references that have been screened, for families
    whose text encoders look at them; see Capabilities.encoder_looks."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompt, and the negative one if there is one."""
        return (self.prompt,) if self.negative is None else (self.prompt, self.negative)

    def digest(self, encoder: str) -> str:
        """sha256 (hex) of these words, LoRAs and pictures, and the identity of the `encoder` that
        reads them."""
        loras = sorted((use.name, use.weight) for use in self.loras)
        said: list[object] = [encoder, self.prompt, self.negative, *([loras] if loras else [])]
        if self.pictures:
            seen = [[one.shape, hashlib.sha256(one.data).hexdigest()] for one in self.pictures]
            said.append({"pictures": seen})
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


@runtime_checkable
class PromptEncoder(Protocol):
    """The text encoders of one model family.

    model: identity of (encoders, weights sha256, version); digests are made of it.
    """

    model: str

    def encode(self, prompts: Sequence[PromptText]) -> list[Conditioning]:
        """One conditioning for each, in order, whose digest is `prompt.digest(model)`: without the
        LoRAs that change nothing of it, and with the files of those that do. prompts: at least one.
        ValueError for a negative prompt where the family reads none. A family that reads words
        only together with pictures has no tensors for words without any."""


@between_releases
@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """One prompt, read by its family's encoders and by the one of the prompt screen."""

    conditioning: Conditioning
    """What decoders read."""
    embeddings: Embeddings
    """What the prompt screen reads."""
