"""Trains the weapons screen's two networks on what the embedded model draws and remembers, and
measures it.

    OMP_NUM_THREADS=1 python -m scripts.weapons.train [--check]

Draws what is missing first (drawings.py). The threshold is the lowest that blocks at
most FALSE_ALARMS of the harmless finals of the calibration set; what the screen reaches is told for
the set `measured`, which nothing was chosen by. --check measures the weights as they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.capabilities import DEFAULT_WEIGHTS
from engine.concept_screen import SIDE, ConceptScreen, near
from engine.models.screen import ScreenNet, TwoLooks
from engine.picture import resize
from engine.render import Pixels
from scripts.training.export import read_manifest, write_manifest, write_part
from scripts.weapons.drawings import PREVIEWED, Drawn, draw_sets, load
from scripts.weapons.prompts import SETS
from scripts.weapons.remembered import remembered

BATCH, ARMED = 64, 20
"""Pictures of a batch, and how many of them show a weapon."""
STAGES = (0.2, 0.3, 0.5)
"""How often a training picture is the first preview, the second one, the final."""
FALSE_ALARMS = 0.001
SEEDS = {"whole": 3, "near": 11}
SMALL = {"whole": 0.3, "near": 0.0}
"""How often a training picture is shrunk to half its size and moved aside."""
FINAL = 2


def train_screen(folder: Path, minutes: float) -> dict[str, Any]:
    """minutes: of processor time for each network. Writes weights and the manifest's entry."""
    drawn = _joined(load("training", folder), remembered(folder))
    net = TwoLooks()
    whole = replace(drawn, pictures=_each(lambda one: resize(one, SIDE, SIDE), drawn.pictures))
    enlarged = replace(drawn, pictures=_each(near, whole.pictures))
    for look, pictures in (("whole", whole), ("near", enlarged)):
        setattr(net, look, _fit(pictures, look, minutes))
    entry = {"threshold": 0.5} | write_part(folder, "screen", net) | {"file": "screen.safetensors"}
    manifest = read_manifest(folder)
    write_manifest(folder, manifest | {"screen": entry})
    entry |= calibrate(folder)
    write_manifest(folder, manifest | {"screen": entry})
    return entry


def calibrate(folder: Path) -> dict[str, float]:
    """The threshold that the calibration set gives, and what it means on `measured`."""
    drawn = load("calibration", folder)
    calm = np.sort(_scores(folder, drawn, FINAL)[~drawn.weapons])[::-1]
    threshold = round(float(calm[int(FALSE_ALARMS * len(calm))]) + 1e-3, 3)
    return {"threshold": threshold} | measure(folder, threshold)


def measure(folder: Path, threshold: float) -> dict[str, float]:
    """Shares of the set `measured` at or over the threshold: finals, and both previews together."""
    drawn = load("measured", folder)
    final = _scores(folder, drawn, FINAL) >= threshold
    previews = np.stack([_scores(folder, drawn, stage) >= threshold for stage in range(FINAL)])
    saved = [_saved(*row) for row in zip(*previews, final, strict=True) if any(row)]
    small = np.array([", small" in prompt for prompt in drawn.prompts])
    armed, calm = drawn.weapons, ~drawn.weapons
    wrongly = [p for p, hit in zip(drawn.prompts, final & calm, strict=True) if hit]
    missed = [p for p, hit in zip(drawn.prompts, ~final & armed, strict=True) if hit]
    print(f"screen: wrongly blocked {wrongly}; missed {missed}", flush=True)
    shares = {
        "recall": final[armed],
        "recall_not_small": final[armed & ~small],
        "false_alarms": final[calm],
        "recall_previews": previews[:, armed],
        "false_alarms_previews": previews[:, calm],
    }
    rounded = {name: round(float(found.mean()), 5) for name, found in shares.items()}
    return rounded | {"passes_saved": round(float(np.mean(saved)), 3)}


def _saved(*blocked: bool) -> float:
    """The share of the passes that a blocked render is spared: a preview is looked at during the
    pass after it, and the render ends with that one."""
    first = blocked.index(True)
    passes = SETS["measured"][0]
    return 0.0 if first == FINAL else 1 - (round(PREVIEWED[first] * passes) + 1) / passes


def _scores(folder: Path, drawn: Drawn, stage: int) -> NDArray[np.float32]:
    return ConceptScreen(folder).scores(list(drawn.pictures[:, stage]))


def _joined(one: Drawn, other: Drawn) -> Drawn:
    pictures = np.concatenate((one.pictures, other.pictures))
    weapons = np.concatenate((one.weapons, other.weapons))
    return Drawn(pictures, weapons, one.prompts + other.prompts)


def _each(change: Callable[[Pixels], Pixels], pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([np.stack([change(one) for one in row]) for row in pictures])


def _fit(drawn: Drawn, look: str, minutes: float) -> ScreenNet:
    """One network; its weights are moving averages."""
    seed = SEEDS[look]
    torch.manual_seed(seed)
    armed, calm = np.flatnonzero(drawn.weapons), np.flatnonzero(~drawn.weapons)
    rng, net = np.random.default_rng(seed), ScreenNet()
    average = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    pictures = torch.from_numpy(drawn.pictures).permute(0, 1, 4, 2, 3)
    started, step, progress = time.process_time(), 0, 0.0
    while progress < 1:
        progress = (time.process_time() - started) / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * max(0.02, 1 - progress)
        rows = np.concatenate((rng.choice(armed, ARMED), rng.choice(calm, BATCH - ARMED)))
        chosen = pictures[rows, rng.choice(len(STAGES), BATCH, p=STAGES)].float() / 255
        wanted = torch.from_numpy(drawn.weapons[rows]).float() * 0.98 + 0.01
        loss = F.binary_cross_entropy_with_logits(net(_changed(chosen, SMALL[look], rng)), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        decay = min(0.99, step / (step + 10))
        for name, tensor in net.state_dict().items():
            average[name].lerp_(tensor, 1 - decay)
        if step % 200 == 0:
            print(f"screen: step {step} loss {loss.item():.4f}, {progress:.0%}", flush=True)
    net.load_state_dict(average)
    return net.eval()


def _changed(pictures: Tensor, small: float, rng: np.random.Generator) -> Tensor:
    """[B, 3, 96, 96] mirrored, turned, moved, blurred and in other light, a little; a share of them
    is made small."""
    count = len(pictures)
    if rng.random() < 0.5:
        pictures = pictures.flip(3)
    shrunk = rng.random(count) < small
    size = torch.from_numpy(rng.uniform(0.8, 1.25, count) * np.where(shrunk, 2, 1)).float()
    angle = torch.from_numpy(rng.normal(0, 0.12, count)).float()
    place = torch.zeros(count, 2, 3)
    place[:, 0, 0], place[:, 0, 1] = size * angle.cos(), -size * angle.sin()
    place[:, 1, 0], place[:, 1, 1] = size * angle.sin(), size * angle.cos()
    aside = np.where(shrunk, 1, 0.12)[:, None]
    place[:, :, 2] = torch.from_numpy(rng.uniform(-aside, aside, (count, 2))).float()
    grid = F.affine_grid(place, list(pictures.shape), align_corners=False)
    pictures = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    if rng.random() < 0.3:
        side = int(rng.choice((24, 32, 48)))
        blurred = F.interpolate(pictures, size=(side, side), mode="area")
        pictures = F.interpolate(blurred, size=(96, 96), mode="bilinear")
    light = torch.from_numpy(rng.uniform(0.8, 1.2, (count, 3, 1, 1))).float()
    shift = torch.from_numpy(rng.normal(0, 0.05, (count, 1, 1, 1))).float()
    return (pictures * light + shift).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="measure only, write nothing")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--minutes", type=float, default=2.5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw_sets(["measured"] if options.check else list(SETS), options.weights)
    if options.check:
        print(measure(options.weights, ConceptScreen(options.weights).threshold))
    else:
        print(train_screen(options.weights, options.minutes))


if __name__ == "__main__":
    main()
