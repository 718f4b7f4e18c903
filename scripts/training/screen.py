"""Trains the concept screen: weapons against all other concepts, on finals and blurry previews.

Previews are imitated: part of a picture's cells lose their codes to the mean of many pictures, or
the picture is blurred; finals are pictures as the codec draws them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.codec import Codec, to_latents
from engine.models.screen import ScreenNet
from scripts.training.captions import BACKGROUNDS, PLACES, STYLE_SHARES, Placed, Scene
from scripts.training.dataset import Pictures, as_input
from scripts.training.export import read_manifest, write_manifest, write_part

BATCH = 64
FALSE_ALARMS = 0.005


def _scene(rng: random.Random, concept: int) -> Scene:
    style = rng.choices(tuple(STYLE_SHARES), tuple(STYLE_SHARES.values()))[0]
    small = rng.random() < 0.2
    column, row = (rng.randrange(3), rng.randrange(len(PLACES))) if small else (1, 1)
    background = "white" if rng.random() < 0.5 else rng.choice(tuple(BACKGROUNDS))
    return Scene("", background, (Placed(concept, style, small, column, row),))


class ScreenData:
    """Batches of pictures in [0, 1] and labels, half weapons."""

    def __init__(self, pictures: Pictures, codec: Codec, seed: int) -> None:
        self.pictures, self.codec = pictures, codec
        self.rng = random.Random(seed)
        categories = [concept.category == "weapons" for concept in pictures.concepts]
        self.weapons = [i for i, weapon in enumerate(categories) if weapon]
        self.others = [i for i, weapon in enumerate(categories) if not weapon]
        codes = codec.encode(as_input(np.array(pictures.pixels[:512])))
        self.mean = to_latents(codes, codec.config.levels).mean(dim=0)

    def concepts(self, count: int, weapon: bool) -> list[int]:
        return self.rng.choices(self.weapons if weapon else self.others, k=count)

    @torch.inference_mode()
    def finals(self, concepts: Sequence[int], hidden: float = 0.0) -> Tensor:
        """[B, 3, 96, 96] in [0, 1]; `hidden` is the share of cells blended to the mean."""
        drawn = np.stack([self.pictures.sprites.draw(_scene(self.rng, c)) for c in concepts])
        codes = self.codec.encode(as_input(drawn))
        latents = to_latents(codes, self.codec.config.levels)
        lost = (torch.rand(latents.shape[:2]) < hidden).unsqueeze(2) * torch.rand(len(drawn), 1, 1)
        latents = latents * (1 - lost) + self.mean * lost
        pixels = (self.codec.decoder(latents).clamp(-1, 1) + 1) / 2
        return F.interpolate(pixels, size=(96, 96), mode="area")

    def batch(self) -> tuple[Tensor, Tensor]:
        half = BATCH // 2
        chosen = self.concepts(half, weapon=True) + self.concepts(half, weapon=False)
        labels = torch.tensor([1.0] * half + [0.0] * half)
        pictures = self.finals(chosen, self.rng.choice((0.0, 0.3, 0.7, 1.0))).clone()
        if self.rng.random() < 0.4:
            side = self.rng.choice((12, 16, 24, 32))
            small = F.interpolate(pictures, size=(side, side), mode="area")
            pictures = F.interpolate(small, size=(96, 96), mode="bilinear")
        return pictures, labels


def train_screen(
    pictures: Pictures, codec: Codec, folder: Path, minutes: float, seed: int
) -> dict[str, Any]:
    """Trains, picks the threshold on fresh finals, writes weights and manifest entry."""
    torch.manual_seed(seed)
    data = ScreenData(pictures, codec, seed)
    net = ScreenNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    started, step, progress = time.monotonic(), 0, 0.0
    while progress < 1:
        progress = (time.monotonic() - started) / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * max(0.02, 1 - progress)
        inputs, labels = data.batch()
        loss = F.binary_cross_entropy_with_logits(net(inputs), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(f"screen: step {step} loss {loss.item():.4f}, {progress:.0%}", flush=True)
    entry = _calibrate(net.eval(), data)
    entry |= write_part(folder, "screen", net) | {"file": "screen.safetensors"}
    manifest = read_manifest(folder)
    write_manifest(folder, manifest | {"screen": entry})
    return entry


@torch.inference_mode()
def _calibrate(net: ScreenNet, data: ScreenData) -> dict[str, Any]:
    """The threshold that keeps false alarms on other concepts' finals under the limit."""
    calm, alarm = (
        torch.cat([net(data.finals(data.concepts(64, weapon))).sigmoid() for _ in range(rounds)])
        for weapon, rounds in ((False, 32), (True, 8))
    )
    threshold = min(0.99, max(0.5, calm.quantile(1 - FALSE_ALARMS / 2).item()))
    found = {
        "threshold": round(threshold, 4),
        "false_alarms": (calm > threshold).float().mean().item(),
        "recall": (alarm > threshold).float().mean().item(),
    }
    print(f"screen: {found}", flush=True)
    return found
