"""Every thing that the model remembers, as its codec draws it: prompts draw only some of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from engine.models.codec import Codec, CodecConfig, to_latents
from engine.remembering import Bank
from engine.scene import COLOURS, PALETTE
from engine.weights import WeightsFolder
from scripts.weapons.drawings import PREVIEWED, Drawn

SEED = 4_000_000
TOGETHER = 64


@torch.inference_mode()
def remembered(folder: Path) -> Drawn:
    """In all looks, large, each on one of the background colours; the same picture as previews."""
    weights = WeightsFolder.open(folder)
    codec = Codec(weights.config(CodecConfig, "codec")).eval()
    weights.fill(codec, "codec")
    names: list[str] = weights.field("concepts")
    large = Bank.load(weights).large.flatten(0, 1).flatten(1, 2)
    parts = [
        codec.decoder(to_latents(codes, codec.config.levels)) for codes in large.split(TOGETHER)
    ]
    decoded = (torch.cat(parts).clamp(-1, 1) + 1) / 2
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(len(COLOURS), size=len(decoded))
    colours = torch.tensor([PALETTE[COLOURS[one]] for one in chosen]) / 255
    behind = 1 - decoded[:, 3:]
    pictures = decoded[:, :3] + behind * (colours[:, :, None, None] - 1)  # they are kept on white
    drawn = (pictures * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    looks = len(decoded) // len(names)
    armed = np.isin(names, weights.field("weapons")).repeat(looks)
    stages = np.stack([drawn] * (len(PREVIEWED) + 1), axis=1)
    return Drawn(stages, armed, [name for name in names for _ in range(looks)])
