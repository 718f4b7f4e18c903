"""The networks of the masked family, in two editions: one reads the text encoder's hidden states,
the other a layout of things that it remembers. What draws with them sees no difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.arrange import layout_of
from engine.models.codec import Codec, CodecConfig
from engine.models.scene_transformer import SceneConfig, SceneTransformer, Sketch
from engine.models.transformer import MaskedTransformer, Prompts, TransformerConfig
from engine.remembering import Bank, told_of
from engine.render import RenderSpec
from engine.tensors import to_torch
from engine.weights import WeightsFolder

Told = Prompts | Sketch
"""What a network reads of B renders; the same in every pass."""


@dataclass(frozen=True)
class MaskedModel:
    """Both networks and the identity of their weights, ready to draw. memory: of the edition that
    remembers things."""

    transformer: MaskedTransformer | SceneTransformer
    codec: Codec
    identity: str
    memory: Bank | None = None

    @classmethod
    def load(cls, folder: Path) -> MaskedModel:
        """WeightsError names the file and field that is missing or wrong."""
        weights = WeightsFolder.open(folder)
        codec = Codec(weights.config(CodecConfig, "codec"))
        remembers = "bank" in weights.field("files")
        transformer: MaskedTransformer | SceneTransformer
        if remembers:
            transformer = SceneTransformer(weights.config(SceneConfig, "transformer"))
        else:
            transformer = MaskedTransformer(weights.config(TransformerConfig, "transformer"))
        weights.fill(transformer, "transformer")
        weights.fill(codec, "codec")
        digest = weights.sha256("transformer")[:12] + weights.sha256("codec")[:4]
        memory = Bank.load(weights) if remembers else None
        if memory is not None:
            digest += weights.sha256("bank")[:4]
        return cls(transformer.eval(), codec.eval(), digest, memory)

    def compute_in(self, dtype: torch.dtype) -> None:
        """What draws; the encoder, which reads pictures that come in, stays as it is."""
        self.transformer.multiply_in(dtype)
        self.codec.decoder.to(dtype)

    def told(self, spec: RenderSpec, device: torch.device) -> Told:
        """Two rows: row 0 what is asked for, row 1 nothing, which guidance compares with."""
        if isinstance(self.transformer, MaskedTransformer):
            return self.transformer.project(*(one.to(device) for one in self._text(spec)))
        assert self.memory is not None
        layout = layout_of(spec, self.memory.turns)
        told = told_of([layout, None], self.memory, self.transformer.config.levels)
        return self.transformer.sketch(told.to(device))

    def _text(self, spec: RenderSpec) -> tuple[Tensor, Tensor]:
        config = self.transformer.config
        assert isinstance(config, TransformerConfig)
        text = torch.zeros(2, config.text_length, config.text_width)
        tokens = to_torch(spec.conditioning.tensors["tokens"])[: config.text_length]
        text[0, : len(tokens)] = tokens
        pooled = torch.zeros(2, config.text_width)
        pooled[0] = to_torch(spec.conditioning.tensors["pooled"])
        return text, pooled

    def fill(self, latents: Tensor, masked: Tensor, told: Sequence[Told]) -> Tensor:
        """See SceneTransformer.fill; told: of all rows, in order."""
        if isinstance(self.transformer, MaskedTransformer):
            prompts = [one for one in told if isinstance(one, Prompts)]
            return self.transformer.fill(latents, masked, Prompts.together(prompts))
        sketches = [one for one in told if isinstance(one, Sketch)]
        return self.transformer.fill(latents, masked, Sketch.together(sketches))
