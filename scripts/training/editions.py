"""The two sizes in which the model can be trained: same code, same file layout."""

from __future__ import annotations

from dataclasses import dataclass

from engine.models.codec import CodecConfig
from engine.models.transformer import TransformerConfig


@dataclass(frozen=True)
class Edition:
    """minutes_*: time budgets. pictures: composed once, cached. scenes: also two objects."""

    name: str
    codec: CodecConfig
    transformer: TransformerConfig
    scenes: bool
    pictures: int
    codec_batch: int
    codec_minutes: float
    transformer_batch: int
    transformer_minutes: float
    polish_minutes: float = 14
    screen_minutes: float = 2.5
    seed: int = 20


CPU = Edition(
    name="emoji-cpu",
    codec=CodecConfig(),
    transformer=TransformerConfig(),
    scenes=False,
    pictures=48_000,
    codec_batch=32,
    codec_minutes=10,
    transformer_batch=64,
    transformer_minutes=46,
)

GPU = Edition(
    name="emoji-gpu",
    codec=CodecConfig(size=128, patch=2, widths=(96, 192, 384), decoder_blocks=3),
    transformer=TransformerConfig(cells=256, width=384, layers=10, heads=6),
    scenes=True,
    pictures=400_000,
    codec_batch=256,
    codec_minutes=4,
    transformer_batch=1024,
    transformer_minutes=9,
)

EDITIONS = {"cpu": CPU, "gpu": GPU}
