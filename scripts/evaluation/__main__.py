"""`make eval`: does the embedded model draw what it is told? Needs the repository alone.

Draws every concept and the prompts of scripts/probes, looks for each picture's nearest neighbours
among the sprites, asks a classifier trained on them, and times one picture. Leaves contact sheets
in out/eval; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from engine.capabilities import DEFAULT_WEIGHTS, OWN, enlarger_folder
from engine.enlarger import Enlarger
from engine.precision import PRECISIONS
from engine.render import Pixels
from engine.weights import WeightsFolder
from scripts.artist import Artist
from scripts.evaluation.classifier import classifier, found_all
from scripts.evaluation.colours import background_of, thing_has
from scripts.evaluation.probes import Probe, probes
from scripts.evaluation.references import References
from scripts.training.words import with_article

ROOT = Path(__file__).resolve().parents[2]
STRIP_PROMPTS = ("a red apple", "a koala on a yellow background", "a rocket", "an owl and a moon")
SEEDS, SEEDED = 4, 30
"""Pictures of one prompt, and prompts, by which seeds are compared."""
LOOKED_AT = 60
"""Drawings on the sheet for a person."""


@dataclass
class Evaluation:
    """Draws and scores; every drawing's seed follows from the first."""

    artist: Artist
    references: References
    seed: int
    out: Path

    def draw(self, prompts: Sequence[str]) -> list[Pixels]:
        started, found = time.monotonic(), []
        for index, prompt in enumerate(prompts):
            found += self.artist.draw(prompt, self.seed + index)
            if time.monotonic() - started > 20:
                print(f"{index + 1}/{len(prompts)} pictures", flush=True)
                started = time.monotonic()
        return found

    def sheet(self, name: str, pictures: Sequence[Pixels], labels: Sequence[str]) -> None:
        sheet(pictures, labels, 12).save(self.out / f"{name}.png")

    def concepts(self, most: int) -> dict[str, float]:
        """Every concept by its own name, or `most` of them."""
        names = self.references.names
        chosen = range(len(names))
        rows = sorted(random.Random(0).sample(chosen, min(most, len(chosen))))
        drawn = self.draw([with_article(names[row]) for row in rows])
        self.sheet("concepts", drawn[:240], [names[row] for row in rows[:240]])
        return {
            f"top{k}_{by}": share(self.references.ranks(drawn, [[r] for r in rows], by) < k)
            for by in ("features", "pixels")
            for k in (1, 5)
        }

    def words(self, name: str) -> float:
        """Of prompts that name no concept: how often an allowed one is among the nearest five."""
        asked = probes(name)
        drawn = self.draw([probe.prompt for probe in asked])
        wanted = [probe.concepts(self.references.names) for probe in asked]
        ranks = self.references.ranks(drawn, wanted, "features")
        order = np.argsort(-ranks)
        self.sheet(name, [drawn[i] for i in order], [asked[i].prompt for i in order])
        missed = [f"{asked[i].prompt} ({asked[i].fields[0][:30]})" for i in order if ranks[i] >= 5]
        print(f"{name}, missed: {'; '.join(missed)}", flush=True)
        return share(ranks < 5)

    def scenes(self, cache: Path) -> dict[str, float]:
        """Two different things, and two or three of one."""
        net, names = classifier(self.references, cache), self.references.names
        asked = probes("two_objects")
        drawn = self.draw([probe.prompt for probe in asked])
        both = [
            found_all(net, picture, [probe.concepts(names, 0), probe.concepts(names, 1)])
            for probe, picture in zip(asked, drawn, strict=True)
        ]
        counted = probes("counts")
        several = self.draw([probe.prompt for probe in counted])
        self.sheet("scenes", [*drawn, *several], [p.prompt for p in (*asked, *counted)])
        seen = [
            found_all(net, picture, [probe.concepts(names)])
            for probe, picture in zip(counted, several, strict=True)
        ]
        return {"two_objects_both": share(both), "counted_seen": share(seen)}

    def colours(self) -> float:
        asked = probes("colours")
        drawn = self.draw([probe.prompt for probe in asked])
        right = [coloured(probe, picture) for probe, picture in zip(asked, drawn, strict=True)]
        order = np.argsort(right, kind="stable")
        self.sheet("colours", [drawn[i] for i in order], [asked[i].prompt for i in order])
        return share(right)

    def seed_diversity(self) -> float:
        """Mean pixel distance between seeds of one prompt, over that between prompts."""
        names = random.Random(1).sample(self.references.names, SEEDED)
        drawn = [
            [self.artist.draw(with_article(name), 100 + seed)[0] for seed in range(SEEDS)]
            for name in names
        ]
        self.sheet("seeds", [p for row in drawn for p in row], [n for n in names for _ in drawn[0]])
        within = [apart(a, b) for row in drawn for i, a in enumerate(row) for b in row[:i]]
        firsts = [row[0] for row in drawn]
        between = [apart(a, b) for i, a in enumerate(firsts) for b in firsts[:i]]
        return float(np.mean(within) / np.mean(between))

    def strips(self) -> None:
        every = range(1, self.artist.passes + 1)
        drawn = [self.artist.draw(prompt, self.seed, every)[:-1] for prompt in STRIP_PROMPTS]
        labels = [f"{prompt[:14]} {k}" for prompt in STRIP_PROMPTS for k in every]
        sheet([p for row in drawn for p in row], labels, len(every)).save(self.out / "previews.png")

    def look(self) -> None:
        """A sheet of random drawings of fresh probes, for a person to count."""
        fresh = [p.prompt for name in ("paraphrases", "first_prompts") for p in probes(name)]
        chosen = random.Random(2).sample(fresh, LOOKED_AT)
        self.sheet("look", self.draw(chosen), chosen)


def share(right: Iterable[object]) -> float:
    return float(np.mean([bool(one) for one in right]))


def apart(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(float) - other).mean())


def coloured(probe: Probe, picture: Pixels) -> bool:
    _, thing, background = probe.fields
    right = thing == "-" or thing_has(picture, thing)
    return right and (background == "-" or background_of(picture) == background)


def sheet(pictures: Sequence[Pixels], labels: Sequence[str], columns: int) -> Image.Image:
    """Pictures in rows, each with its label below."""
    size, line = pictures[0].shape[0], 12
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * (size + 4), rows * (size + line + 4)), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = index % columns * (size + 4), index // columns * (size + line + 4)
        canvas.paste(Image.fromarray(picture), (left, top))
        draw.text((left + 1, top + size), label[:22], fill="black")
    return canvas


def seconds_per_image(artist: Artist, enlarger: Enlarger | None) -> tuple[float, float]:
    """Medians of nine pictures: prompt to pixels, and what enlarging takes after that."""
    drawn, enlarged = [], []
    for seed in range(10):
        started = time.perf_counter()
        (picture,) = artist.draw("a red apple on a blue background", seed)
        drawn.append(time.perf_counter() - started)
        if enlarger is not None:
            enlarger.enlarge(picture)
        enlarged.append(time.perf_counter() - started - drawn[-1])
    return sorted(drawn[1:])[4], sorted(enlarged[1:])[4]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "eval")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "eval")
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--concepts", type=int, default=10_000, help="most that are drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="auto", choices=("auto", *PRECISIONS))
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    artist = Artist(options.passes, options.guidance, options.weights, options.dtype)
    references = References.load(WeightsFolder.open(options.weights))
    it = Evaluation(artist, references, options.seed, options.out)
    scores = it.concepts(options.concepts)
    scores["paraphrase_top5"] = it.words("paraphrases")
    scores["out_of_captions_top5"] = it.words("out_of_captions")
    scores |= it.scenes(options.cache)
    scores["colour_right"] = it.colours()
    scores["seed_diversity"] = it.seed_diversity()
    it.strips()
    it.look()
    enlarges = enlarger_folder(OWN, "masked", {"weights": options.weights})
    enlarger = None if enlarges is None else Enlarger.load(enlarges)
    seconds, enlarging = seconds_per_image(artist, enlarger)
    result = {key: round(value, 4) for key, value in scores.items()}
    result |= {"seconds_per_image": round(seconds, 3), "seconds_enlarging": round(enlarging, 3)}
    result["concepts"] = len(references.names)
    for key, value in result.items():
        print(f"{key:22} {value}")
    print(f"pictures: {options.out}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
