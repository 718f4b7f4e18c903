"""A concept classifier, trained on the real sprites: which concept does a part of a picture show?
It has never seen a drawing of the model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.render import Pixels
from engine.scene import GRID, PALETTE, SMALL
from scripts.evaluation.references import References, as_tensor
from scripts.training.compose import recoloured

WIDTHS = (32, 64, 128, 192)
MINUTES, BATCH = 5.0, 96
WINDOWS = [(column, row) for row in range(0, 5, 2) for column in range(0, 5, 2)]
"""Left upper cells of the parts that are looked at, each SMALL cells wide and high."""


class ConceptNet(nn.Module):
    """Pictures [B, 3, 64, 64] in [-1, 1] -> logits [B, concepts]."""

    def __init__(self, concepts: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * 16, concepts))

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.net(pictures)
        return found


def classifier(references: References, cache: Path) -> ConceptNet:
    """Trained in some minutes, and kept in the cache."""
    net = ConceptNet(len(references.names))
    digest = hashlib.sha256(references.sprites.tobytes()).hexdigest()[:12]
    path = cache / f"concepts-{digest}.pt"
    if path.exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net.eval()
    _train(net, references)
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return net.eval()


def _train(net: ConceptNet, references: References) -> None:
    torch.manual_seed(5)
    rng, started, step = np.random.default_rng(5), time.monotonic(), 0
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    while (spent := time.monotonic() - started) < MINUTES * 60:
        optimizer.param_groups[0]["lr"] = 2e-3 * max(0.02, 1 - spent / (MINUTES * 60))
        concepts = rng.integers(len(references.names), size=BATCH)
        pictures = [_example(references, int(concept), rng) for concept in concepts]
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(as_tensor(pictures))
        loss = F.cross_entropy(logits.float(), torch.from_numpy(concepts))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"classifier: step {step} loss {loss.item():.3f}", flush=True)
        step += 1


def _example(references: References, concept: int, rng: np.random.Generator) -> Pixels:
    """A sprite in some look, perhaps coloured, mirrored and moved, before some background."""
    sprite = references.sprites[concept, rng.integers(3)]
    alpha = sprite[..., 3:].astype(np.uint16)
    laid = np.dstack([(sprite[..., :3] * alpha // 255).astype(np.uint8), sprite[..., 3]])
    if rng.random() < 0.2:
        laid = recoloured(laid, int(rng.integers(len(PALETTE))))
    if rng.random() < 0.5:
        laid = laid[:, ::-1]
    laid = np.roll(laid, rng.integers(-4, 5, size=2), axis=(0, 1))
    ground = np.array(list(PALETTE.values())[rng.integers(len(PALETTE))], np.uint16)
    mixed = laid[..., :3] + ground * (255 - laid[..., 3:].astype(np.uint16)) // 255
    noisy = mixed + rng.normal(0, rng.choice([0, 4, 8]), mixed.shape)
    return noisy.clip(0, 255).astype(np.uint8)


@torch.inference_mode()
def concepts_seen(net: ConceptNet, picture: Pixels, best: int = 3) -> set[int]:
    """The concepts that are among the `best` of some part of the picture."""
    cell = len(picture) // GRID
    parts = [
        picture[row * cell : (row + SMALL) * cell, column * cell : (column + SMALL) * cell]
        for column, row in WINDOWS
    ]
    logits = net(F.interpolate(as_tensor(parts), size=(64, 64), mode="area"))
    return set(logits.topk(best, dim=1).indices.flatten().tolist())


def found_all(net: ConceptNet, picture: Pixels, wanted: Sequence[Sequence[int]]) -> bool:
    """Whether of each of these lists of concepts one is seen."""
    seen = concepts_seen(net, picture)
    return all(seen & set(allowed) for allowed in wanted)
