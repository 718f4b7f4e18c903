"""Draws what prompts.tsv lists, and keeps it: an interrupted run goes on where it was.

OMP_NUM_THREADS=1 python -m scripts.weapons.drawings [training | calibration | measured]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.capabilities import DEFAULT_WEIGHTS
from engine.decoders.masked import MaskedDecoder
from engine.prompt_encoder import PromptText
from engine.render import Conditioning, Pixels, RenderSpec
from engine.scene import SceneCodes
from engine.scene_encoder import SceneEncoder
from engine.weights import WeightsFolder
from scripts.weapons.prompts import SETS, Drawing, drawings

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "drawings"
SHARD = 40
TOGETHER = 4
PREVIEWED = (1 / 3, 2 / 3)
"""After which share of the passes a preview is kept, as a service screens two of them."""


@dataclass(frozen=True)
class Drawn:
    """N drawings: pictures uint8 [N, 3, side, side, 3] (two previews, then the final), weapons bool
    [N] says which show one, whatever their prompts are."""

    pictures: NDArray[np.uint8]
    weapons: NDArray[np.bool_]
    prompts: list[str]


def load(name: str, weights: Path = DEFAULT_WEIGHTS) -> Drawn:
    """A set as that model drew it. FileNotFoundError names the command when part is missing."""
    wanted, folder = drawings(name), _folder(name, weights)
    paths = [folder / f"{at:05d}.npz" for at in range(0, len(wanted), SHARD)]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not drawn: python -m scripts.weapons.drawings")
    stored = [np.load(path) for path in paths]
    pictures, weapons = (
        np.concatenate([one[name] for one in stored]) for name in ("pictures", "weapons")
    )
    return Drawn(pictures, weapons, [d.prompt for d in wanted])


def _folder(name: str, weights: Path) -> Path:
    """Drawings of another model are others."""
    files = WeightsFolder.open(weights)
    return CACHE / "-".join(files.sha256(part)[:12] for part in ("transformer", "codec")) / name


def draw_sets(names: Sequence[str], weights: Path = DEFAULT_WEIGHTS) -> None:
    """Whatever of these sets is not in the cache yet."""
    decoder, encoder = MaskedDecoder(weights), SceneEncoder(weights)
    files = WeightsFolder.open(weights)
    concepts: list[str] = files.field("concepts")
    weapons = frozenset(concepts.index(name) for name in files.field("weapons"))
    for name in names:
        _draw_set(name, _folder(name, weights), decoder, encoder, weapons)


def _draw_set(
    name: str, folder: Path, decoder: MaskedDecoder, encoder: SceneEncoder, weapons: Set[int]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = drawings(name)
    for at in range(0, len(wanted), SHARD):
        path = folder / f"{at:05d}.npz"
        if path.is_file():
            continue
        jobs = wanted[at : at + SHARD]
        conditionings = encoder.encode([PromptText(job.prompt) for job in jobs])
        parts = [
            draw(decoder, jobs[i : i + TOGETHER], conditionings[i : i + TOGETHER])
            for i in range(0, len(jobs), TOGETHER)
        ]
        armed = [not weapons.isdisjoint(_things(one)) for one in conditionings]
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, pictures=np.concatenate(parts), weapons=np.array(armed))
        unfinished.rename(path)
        print(f"{name}: {at + len(jobs)} of {len(wanted)}", flush=True)


def _things(conditioning: Conditioning) -> list[int]:
    """The concepts that are drawn for it."""
    codes = {name: conditioning.numpy(name) for name in ("things", "scene")}
    return [concept for concept, _, _ in SceneCodes.of(codes).things]


def draw(
    decoder: MaskedDecoder, jobs: list[Drawing], conditionings: list[Conditioning]
) -> NDArray[np.uint8]:
    """Drawings of as many passes each -> uint8 [N, 3, side, side, 3]: two previews, the final."""
    passes = jobs[0].passes
    renders = [
        decoder.begin(RenderSpec(job.prompt, conditioning, job.seed, passes), None)
        for job, conditioning in zip(jobs, conditionings, strict=True)
    ]
    seen: list[list[Pixels]] = [[] for _ in jobs]
    shown = {round(share * passes) for share in PREVIEWED}
    for number in range(1, passes + 1):
        decoder.step(renders)
        if number in shown:
            for row, render in zip(seen, renders, strict=True):
                row.append(decoder.preview(render))
    for row, render in zip(seen, renders, strict=True):
        row.append(decoder.finish(render))
    return np.stack([np.stack(row) for row in seen])


def main() -> None:
    torch.set_num_threads(1)
    draw_sets(sys.argv[1:] or list(SETS))


if __name__ == "__main__":
    main()
