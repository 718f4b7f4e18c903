"""Trains the concept screen: weapons against all other concepts, on finals and blurry previews.

Two sources: pictures that the trained model draws, with their real previews, and many more that the
codec draws, whose previews are imitated: cells lose their codes to the mean of many pictures, or
the picture is blurred. The threshold is set on finals that the model drew from other prompts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.codec import Codec, to_latents
from engine.models.screen import ScreenNet
from engine.render import Pixels
from scripts.artist import Artist
from scripts.training.captions import BACKGROUNDS, PLACES, STYLE_SHARES, Placed, Scene, with_article
from scripts.training.concepts import Concept
from scripts.training.dataset import Pictures, as_input
from scripts.training.export import read_manifest, write_manifest, write_part

BATCH = 64
FALSE_ALARMS = 0.005
PASSES = 8
PREVIEWED = (1, 3, 5)
GUIDANCE = 3.0
WEAPON_PROMPTS = 16


def _scene(rng: random.Random, concept: int) -> Scene:
    style = rng.choices(tuple(STYLE_SHARES), tuple(STYLE_SHARES.values()))[0]
    small = rng.random() < 0.2
    column, row = (rng.randrange(3), rng.randrange(len(PLACES))) if small else (1, 1)
    background = "white" if rng.random() < 0.5 else rng.choice(tuple(BACKGROUNDS))
    return Scene("", background, (Placed(concept, style, small, column, row),))


@dataclass(frozen=True)
class Pool:
    """Pictures uint8 [N, 3, 96, 96] and whether each shows a weapon, bool [N]."""

    pictures: Tensor
    weapons: Tensor

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Half weapons; pictures in [0, 1], some blurred, some mirrored."""
        rows = np.concatenate(
            [
                rng.choice(np.flatnonzero(self.weapons.numpy() == wanted), BATCH // 2)
                for wanted in (True, False)
            ]
        )
        pictures = self.pictures[rows].float() / 255
        if rng.random() < 0.4:
            side = int(rng.choice((12, 16, 24, 32)))
            small = F.interpolate(pictures, size=(side, side), mode="area")
            pictures = F.interpolate(small, size=(96, 96), mode="bilinear")
        mirrored = pictures.flip(3) if rng.random() < 0.5 else pictures
        return mirrored, self.weapons[rows].float()


@torch.inference_mode()
def make_pool(pictures: Pictures, codec: Codec, count: int, seed: int) -> Pool:
    """`count` pictures drawn by the codec, a quarter weapons, half of them finals and half with a
    share of their cells blended towards the mean of all pictures, as in a preview."""
    rng, found, weapons = random.Random(seed), [], []
    armed = [i for i, c in enumerate(pictures.concepts) if c.category == "weapons"]
    calm = [i for i, c in enumerate(pictures.concepts) if c.category != "weapons"]
    for _ in range(count // BATCH):
        chosen = rng.choices(armed, k=BATCH // 4) + rng.choices(calm, k=BATCH - BATCH // 4)
        drawn = np.stack([pictures.sprites.draw(_scene(rng, c)) for c in chosen])
        latents = to_latents(codec.encode(as_input(drawn)), codec.config.levels)
        hidden = torch.rand(len(drawn), 1) * (torch.rand(len(drawn), 1) < 0.5)
        lost = (torch.rand(latents.shape[:2]) < hidden).unsqueeze(2) * torch.rand(len(drawn), 1, 1)
        latents = latents * (1 - lost) + latents.mean(dim=0) * lost
        pixels = codec.decoder(latents).clamp(-1, 1) * 127.5 + 127.5
        found.append(F.interpolate(pixels, size=(96, 96), mode="area").to(torch.uint8))
        weapons += [i in set(armed) for i in chosen]
    return Pool(torch.cat(found), torch.tensor(weapons))


def _prompts(
    concepts: Sequence[Concept], plain: bool, rng: random.Random
) -> list[tuple[str, bool]]:
    """(prompt, shows a weapon): each concept once, each weapon several times in varied settings."""
    found = []
    for concept in concepts:
        weapon = concept.category == "weapons"
        for index in range(WEAPON_PROMPTS if weapon else 1):
            name = with_article(concept.name)
            if index or not plain:
                style = rng.choice(("{}", "{}, 3D style", "a cartoon of {}"))
                colour = rng.choice(tuple(BACKGROUNDS))
                name = f"{style.format(name)} on a {colour} background"
            found.append((name, weapon))
    return found


def drawn_by_model(
    folder: Path, concepts: Sequence[Concept], plain: bool, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures that the model itself draws, uint8 [N, 3, 96, 96], whether each shows a weapon, and
    whether each is a final.
    plain: most prompts name the concept alone; else each has a look and a background."""
    artist = Artist(PASSES, GUIDANCE, folder)
    prompts = _prompts(concepts, plain, random.Random(seed))
    pictures: list[Pixels] = []
    weapons, finals = [], []
    for index, (prompt, weapon) in enumerate(prompts):
        pictures += artist.draw(prompt, seed * 100_000 + index, PREVIEWED)
        weapons += [weapon] * (len(PREVIEWED) + 1)
        finals += [False] * len(PREVIEWED) + [True]
        if index % 100 == 0:
            print(f"screen: drew {index}/{len(prompts)}", flush=True)
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    sized = F.interpolate(stacked.float(), size=(96, 96), mode="area").to(torch.uint8)
    return sized, torch.tensor(weapons), torch.tensor(finals)


def train_screen(
    pictures: Pictures, codec: Codec, folder: Path, minutes: float, seed: int
) -> dict[str, Any]:
    """Trains, picks the threshold on fresh pictures, writes weights and manifest entry."""
    torch.manual_seed(seed)
    pool = make_pool(pictures, codec, 4096, seed)
    drawn, weapons, _ = drawn_by_model(folder, pictures.concepts, False, seed)
    pool = Pool(torch.cat((pool.pictures, drawn)), torch.cat((pool.weapons, weapons)))
    print(f"screen: {len(pool.pictures)} pictures ready", flush=True)
    net = ScreenNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    rng = np.random.default_rng(seed)
    started, step, progress = time.monotonic(), 0, 0.0
    while progress < 1:
        progress = (time.monotonic() - started) / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * max(0.02, 1 - progress)
        inputs, labels = pool.batch(rng)
        loss = F.binary_cross_entropy_with_logits(net(inputs), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"screen: step {step} loss {loss.item():.4f}, {progress:.0%}", flush=True)
    entry = _calibrate(net.eval(), folder, pictures, seed + 1)
    entry |= write_part(folder, "screen", net) | {"file": "screen.safetensors"}
    manifest = read_manifest(folder)
    write_manifest(folder, manifest | {"screen": entry})
    return entry


@torch.inference_mode()
def _calibrate(net: ScreenNet, folder: Path, pictures: Pictures, seed: int) -> dict[str, Any]:
    """The threshold that keeps false alarms on the model's finals under the limit."""
    drawn, weapons, final = drawn_by_model(folder, pictures.concepts, True, seed)
    scores = torch.cat([net(part.float() / 255).sigmoid() for part in drawn.split(64)])
    calm = scores[final & ~weapons]
    threshold = min(0.99, max(0.5, calm.quantile(1 - FALSE_ALARMS / 2).item()))

    def share(rows: Tensor) -> float:
        return round((scores[rows] > threshold).float().mean().item(), 5)

    found = {
        "threshold": round(threshold, 4),
        "false_alarms": share(final & ~weapons),
        "recall": share(final & weapons),
        "false_alarms_previews": share(~final & ~weapons),
        "recall_previews": share(~final & weapons),
    }
    print(f"screen: {found}", flush=True)
    return found
