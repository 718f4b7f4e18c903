"""What is trained, how large and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from engine.models.codec import CodecConfig
from engine.models.enlarger import EnlargerConfig
from engine.models.scene_transformer import SceneConfig


@dataclass(frozen=True)
class Edition:
    """minutes_*: time budgets. pictures: composed once, cached. enlarged: how many of them are
    composed larger, too."""

    name: str
    codec: CodecConfig
    transformer: SceneConfig
    pictures: int
    codec_batch: int
    codec_minutes: float
    transformer_batch: int
    transformer_minutes: float
    polish_minutes: float
    enlarger: EnlargerConfig
    enlarged: int
    enlarger_minutes: float
    screen_minutes: float = 2.5
    seed: int = 20


EMOJI = Edition(
    name="emoji-2",
    codec=CodecConfig(size=128, patch=4, channels=24, alpha=True),
    transformer=SceneConfig(),
    pictures=60_000,
    codec_batch=32,
    codec_minutes=16,
    transformer_batch=64,
    transformer_minutes=53,
    polish_minutes=12,
    enlarger=EnlargerConfig(),
    enlarged=3_000,
    enlarger_minutes=14,
)
