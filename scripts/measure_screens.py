"""Measure the screens on what is at hand: what they cost, and what they say of harmless things.

    python -m scripts.measure_screens

Needs the training pictures (.cache/train, see scripts/train.py) for the emoji; where
weights/emoji-2 is there it also draws pictures and measures the weapons screen on previews and
finals. The rate at which nudity is found cannot be measured here: there are no such pictures.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from io import BytesIO
from pathlib import Path

import numpy as np
import resvg_py
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.capabilities import DEFAULT_WEIGHTS
from engine.concept_screen import ConceptScreen
from engine.image_screen import ImageScreen, NsfwScreen
from engine.prompt_screen import PromptScreen
from engine.render import Pixels
from engine.scene_encoder import SceneEncoder
from engine.text import TextEncoder
from scripts.artist import Artist
from scripts.training.concepts import listed

ROOT = Path(__file__).resolve().parents[1]
ICONS = ROOT / ".cache" / "train" / "npm" / "noto" / "icons.json"
GROUNDS = (
    (255, 255, 255), (255, 220, 60), (60, 120, 220), (90, 180, 90),
    (200, 60, 60), (120, 120, 120), (20, 20, 20), (245, 190, 160),
)  # fmt: skip
PASSES = 12


def emoji(count: int) -> tuple[list[str], list[Pixels]]:
    """`count` icons of the set, on grounds of eight colours, 96x96; always the same ones."""
    stored = json.loads(ICONS.read_text(encoding="utf-8"))
    names = sorted(stored["icons"])
    chosen = np.random.default_rng(0).choice(len(names), count, replace=False)
    pictures = []
    for k in chosen:
        icon = stored["icons"][names[k]]
        width = icon.get("width", stored.get("width", 16))
        height = icon.get("height", stored.get("height", 16))
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {width} {height}" width="80" height="80">{icon["body"]}</svg>'
        )
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=80))
        ground = Image.new("RGBA", (96, 96), (*GROUNDS[k % len(GROUNDS)], 255))
        ground.alpha_composite(Image.open(BytesIO(png)).convert("RGBA").resize((80, 80)), (8, 8))
        pictures.append(np.asarray(ground.convert("RGB")))
    return [names[k] for k in chosen], pictures


def concepts() -> dict[str, list[str]]:
    """Names of what the embedded model draws, by category."""
    found = defaultdict[str, list[str]](list)
    for name, category, _ in listed():
        found[category].append(name)
    return found


def cost_ms(screen: ImageScreen, picture: Pixels, rounds: int = 20) -> float:
    """Processor milliseconds of one picture alone; the wall's would measure the neighbours too."""
    screen.scores([picture])
    begin = time.process_time()
    for _ in range(rounds):
        screen.scores([picture])
    return (time.process_time() - begin) / rounds * 1e3


def measure_prompts(encoder: TextEncoder) -> None:
    names = [name for group in concepts().values() for name in group]
    prompts = names + [f"a {name} on a yellow background" for name in names]
    embeddings = np.concatenate(
        [encoder.embed(prompts[i : i + 64]) for i in range(0, len(prompts), 64)]
    )
    screen, begin = PromptScreen(), time.process_time()
    verdicts = screen.screen(prompts, embeddings)
    micro = (time.process_time() - begin) / len(prompts) * 1e6
    blocked = [p for p, verdict in zip(prompts, verdicts, strict=True) if verdict.blocked]
    print(f"prompt: {micro:.0f} us a prompt; blocked {len(blocked)} of {len(prompts)}: {blocked}")


def measure_nsfw() -> None:
    if not ICONS.is_file():
        print(f"sexual: not measured, {ICONS} is not there")
        return
    screen, (names, pictures) = NsfwScreen(), emoji(500)
    scores = screen.scores(pictures)
    worst = [f"{names[i]} {scores[i]:.2f}" for i in np.argsort(-scores)[:3]]
    over = int((scores >= screen.threshold).sum())
    print(
        f"sexual: {cost_ms(screen, pictures[0]):.1f} ms a picture; {len(scores)} emoji: mean "
        f"{scores.mean():.3f}, {over} at or over {screen.threshold}; highest: {', '.join(worst)}"
    )


def measure_weapons(encoder: SceneEncoder, seeds: int = 6, others: int = 96) -> None:
    if not (DEFAULT_WEIGHTS / "transformer.safetensors").is_file():
        print(f"weapons: not measured, {DEFAULT_WEIGHTS} is not there")
        return
    screen, groups = ConceptScreen(DEFAULT_WEIGHTS), concepts()
    artist = Artist(PASSES, guidance=3.0, encoder=encoder)
    armed = [(name, seed) for name in groups.pop("weapons") for seed in range(1, seeds + 1)]
    harmless = [name for group in groups.values() for name in group]
    picked = np.random.default_rng(0).choice(len(harmless), others, replace=False)

    def shares(jobs: list[tuple[str, int]]) -> NDArray[np.bool_]:
        """Blocked or not: [jobs, 2], preview and final."""
        drawn = [artist.draw(f"a {name}", seed, (PASSES // 2,)) for name, seed in jobs]
        return np.array([screen.scores(pair) >= screen.threshold for pair in drawn])

    found, wrong = shares(armed), shares([(harmless[i], 1) for i in picked])
    cost = cost_ms(screen, np.zeros((128, 128, 3), np.uint8))
    print(f"weapons: {cost:.1f} ms a picture, limit {screen.threshold}")
    for name, rows in (("weapons", found), ("others", wrong)):
        half, final = rows.mean(axis=0)
        either = rows.any(1).mean()
        print(f"blocked of {len(rows)} {name} drawn: {half:.1%} half-way, {final:.1%} at the end, "
              f"{either:.1%} either")  # fmt: skip
    missed = sorted({name for (name, _), hit in zip(armed, found.any(1), strict=True) if not hit})
    false = [harmless[i] for i, hit in zip(picked, wrong.any(1), strict=True) if hit]
    print(f"missed at least once: {missed}; wrongly blocked: {false}")


def main() -> None:
    torch.set_num_threads(1)
    encoder = SceneEncoder()
    measure_prompts(encoder)
    measure_nsfw()
    measure_weapons(encoder)


if __name__ == "__main__":
    main()
