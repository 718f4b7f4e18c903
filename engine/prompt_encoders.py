"""What a process that encodes prompts holds: the text encoders of its family, and the embedded one,
whose vectors the prompt screen reads for every family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from engine.disguise import undisguised
from engine.prompt_encoder import Embeddings, EncodedPrompt, PromptText
from engine.registry import create_prompt_encoder
from engine.render import Conditioning
from engine.text import TextEncoder


class PromptEncoders:
    """family, options: as create_decoder takes them. threads: intra-op threads of this process, 0
    leaves them alone."""

    def __init__(self, family: str, options: Mapping[str, object], threads: int = 0) -> None:
        """Raises as create_prompt_encoder."""
        if threads:
            torch.set_num_threads(threads)
        self._encoder = create_prompt_encoder(family, **options)
        self._embedded = isinstance(self._encoder, TextEncoder)
        self._screened = self._encoder if isinstance(self._encoder, TextEncoder) else TextEncoder()

    def encode(self, prompts: Sequence[PromptText]) -> list[EncodedPrompt]:
        """One a prompt, in order. Raises as PromptEncoder.encode."""
        conditionings = self._encoder.encode(prompts)
        embeddings = self._embeddings(prompts, conditionings)
        return [EncodedPrompt(*pair) for pair in zip(conditionings, embeddings, strict=True)]

    def _embeddings(
        self, prompts: Sequence[PromptText], conditionings: Sequence[Conditioning]
    ) -> list[Embeddings]:
        """Where decoders read the same vector of the same words, it is there already."""
        texts = list(dict.fromkeys(text for prompt in prompts for text in prompt.texts))
        known: dict[str, Embeddings] = {}
        if self._embedded:
            for prompt, conditioning in zip(prompts, conditionings, strict=True):
                if undisguised(prompt.prompt) == prompt.prompt:
                    known[prompt.prompt] = conditioning.numpy("pooled")
        missing = [text for text in texts if text not in known]
        if missing:
            known |= zip(missing, self._screened.embed(missing), strict=True)
        return [np.stack([known[text] for text in prompt.texts]) for prompt in prompts]
