"""Prompts to pictures by the embedded model, in this process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from engine.capabilities import DEFAULT_WEIGHTS
from engine.decoders.masked import MaskedDecoder
from engine.prompt_encoder import PromptText
from engine.render import Pixels, RenderSpec
from engine.scene_encoder import SceneEncoder


@dataclass(slots=True)
class Artist:
    """passes, guidance: of every picture. dtype: see MaskedDecoder."""

    passes: int
    guidance: float
    weights: Path = DEFAULT_WEIGHTS
    dtype: str = "float32"
    encoder: SceneEncoder | None = None
    """None: of these weights."""
    _encoder: SceneEncoder = field(init=False)
    _decoder: MaskedDecoder = field(init=False)

    def __post_init__(self) -> None:
        self._encoder = self.encoder or SceneEncoder(self.weights)
        self._decoder = MaskedDecoder(self.weights, dtype=self.dtype)

    def draw(self, prompt: str, seed: int, previewed: Collection[int] = ()) -> list[Pixels]:
        """The picture, behind previews of it after these passes; the first pass is 1."""
        (conditioning,) = self._encoder.encode([PromptText(prompt)])
        spec = RenderSpec(prompt, conditioning, seed, self.passes, self.guidance)
        render, previews = self._decoder.begin(spec, None), []
        for number in range(1, self.passes + 1):
            self._decoder.step([render])
            if number in previewed:
                previews.append(self._decoder.preview(render))
        return [*previews, self._decoder.finish(render)]
