"""The networks of the masked family, and the bank of things that they draw from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.arrange import layout_of
from engine.models.codec import Codec, CodecConfig
from engine.models.scene_transformer import SceneConfig, SceneTransformer, Sketch
from engine.remembering import Bank, told_of
from engine.render import RenderSpec
from engine.vocabulary import encoder_identity
from engine.weights import WeightsFolder


@dataclass(frozen=True)
class MaskedModel:
    """Both networks, what they remember, and the identity of their weights, ready to draw.

    encoder: identity of the scene encoder whose rows of things are those of the memory."""

    transformer: SceneTransformer
    codec: Codec
    memory: Bank
    identity: str
    encoder: str = ""

    @classmethod
    def load(cls, folder: Path) -> MaskedModel:
        """WeightsError names the file and field that is missing or wrong."""
        weights = WeightsFolder.open(folder)
        codec = Codec(weights.config(CodecConfig, "codec"))
        transformer = SceneTransformer(weights.config(SceneConfig, "transformer"))
        weights.fill(transformer, "transformer")
        weights.fill(codec, "codec")
        memory = Bank.load(weights)
        lengths = {"transformer": 12, "codec": 4, "bank": 4}
        identity = "".join(weights.sha256(part)[:length] for part, length in lengths.items())
        networks = transformer.eval(), codec.eval()
        return cls(*networks, memory, identity, encoder_identity(weights))

    def compute_in(self, dtype: torch.dtype) -> None:
        """What draws; the encoder, which reads pictures that come in, stays as it is."""
        self.transformer.multiply_in(dtype)
        self.codec.decoder.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def told(self, spec: RenderSpec, device: torch.device) -> Sketch:
        """What the transformer reads of a render, the same in every pass. Two rows: row 0 what is
        asked for, row 1 nothing, which guidance compares with."""
        layout = layout_of(spec, self.memory.turns)
        told = told_of([layout, None], self.memory, self.transformer.config.levels)
        return self.transformer.sketch(told.to(device))

    def fill(self, latents: Tensor, masked: Tensor, told: Sequence[Sketch]) -> Tensor:
        """See SceneTransformer.fill; told: of all rows, in order."""
        return self.transformer.fill(latents, masked, Sketch.together(told))
