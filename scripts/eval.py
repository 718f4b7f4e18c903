"""`make eval`: does the embedded model draw what it is told? Needs the repository alone.

Draws prompts of 200 concepts and 40 paraphrases, looks for each picture's nearest neighbours among
the reference pictures of all concepts, and times one picture in float32. Leaves a contact sheet and
a strip of previews in out/eval; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from engine.decoders.masked import DEFAULT_WEIGHTS
from engine.models.codec import Codec, CodecConfig
from engine.render import Pixels
from engine.weights import WeightsFolder
from scripts.artist import Artist
from scripts.training.captions import with_article
from scripts.training.dataset import PARAPHRASES, as_input

ROOT = Path(__file__).resolve().parents[1]
STRIP_PROMPTS = ("a red apple", "a koala on a yellow background", "a rocket", "a cartoon fox")


def paraphrases(path: Path = PARAPHRASES) -> list[tuple[str, str]]:
    """(prompt, concept) of every line."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    pairs = (line.split("|") for line in lines)
    return [(p.replace("[", "").replace("]", "").strip(), c.strip()) for p, c in pairs]


def draw_all(artist: Artist, prompts: Sequence[str], seed: int) -> list[Pixels]:
    started, found = time.monotonic(), []
    for index, prompt in enumerate(prompts):
        found += artist.draw(prompt, seed + index)
        if time.monotonic() - started > 10:
            print(f"{index + 1}/{len(prompts)} pictures", flush=True)
            started = time.monotonic()
    return found


def gallery(weights: WeightsFolder) -> list[Pixels]:
    """The reference picture of every concept."""
    entry, size = weights.field("gallery"), weights.field("config")["codec"]["size"]
    with Image.open(weights.path / entry["file"]) as opened:
        sheet = np.asarray(opened.convert("RGB"))
    places = (divmod(i, entry["columns"]) for i in range(len(weights.field("concepts"))))
    return [sheet[r * size : (r + 1) * size, c * size : (c + 1) * size] for r, c in places]


def pixel_features(pictures: Sequence[Pixels]) -> Tensor:
    """[B, 3 * 24 * 24], pictures shrunk to 24 x 24, brightness kept: knows nothing of our codec."""
    return F.interpolate(as_input(np.stack(pictures)), size=(24, 24), mode="area").flatten(1)


def codec_features(codec: Codec, pictures: Sequence[Pixels]) -> Tensor:
    """[B, cells * channels], the encoder's latents: flattering, for they are the model's own."""
    with torch.inference_mode():
        return codec.encoder(as_input(np.stack(pictures))).tanh().flatten(1)


def ranks(queries: Tensor, references: Tensor, wanted: Sequence[int]) -> NDArray[np.int64]:
    """How many references are nearer (cosine, mean removed) than the wanted one, for each query."""
    mean = references.mean(dim=0)
    near = F.normalize(queries - mean, dim=1) @ F.normalize(references - mean, dim=1).T
    own = near.gather(1, torch.tensor(wanted).unsqueeze(1))
    return (near > own).sum(dim=1).numpy()


def sheet(pictures: Sequence[Pixels], labels: Sequence[str], columns: int) -> Image.Image:
    """Pictures in rows, each with its label below."""
    size, line = pictures[0].shape[0], 12
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * (size + 4), rows * (size + line + 4)), "white")
    draw = ImageDraw.Draw(canvas)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = index % columns * (size + 4), index // columns * (size + line + 4)
        canvas.paste(Image.fromarray(picture), (left, top))
        draw.text((left + 1, top + size), label[:17], fill="black")
    return canvas


def seconds_per_image(artist: Artist, threads: int) -> float:
    """Median of nine pictures, text encoder to pixels, float32."""
    torch.set_num_threads(threads)
    taken = []
    for seed in range(10):
        started = time.perf_counter()
        artist.draw("a red apple on a blue background", seed)
        taken.append(time.perf_counter() - started)
    return sorted(taken[1:])[4]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "eval")
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    weights = WeightsFolder.open(options.weights)
    names = weights.field("concepts")
    codec = Codec(weights.config(CodecConfig, "codec"))
    weights.fill(codec, "codec")
    references = gallery(weights)
    artist = Artist(options.passes, options.guidance, options.weights)

    chosen = sorted(random.Random(0).sample(range(len(names)), min(options.prompts, len(names))))
    drawn = draw_all(artist, [with_article(names[i]) for i in chosen], options.seed)
    others = paraphrases()
    meant = [names.index(concept) for _, concept in others]
    redrawn = draw_all(artist, [prompt for prompt, _ in others], options.seed)

    near_codec, near_pixels = codec_features(codec, references), pixel_features(references)
    by_codec = ranks(codec_features(codec, drawn), near_codec, chosen)
    by_pixels = ranks(pixel_features(drawn), near_pixels, chosen)
    by_paraphrase = ranks(codec_features(codec, redrawn), near_codec, meant)
    scores = {
        "top1_features": float((by_codec < 1).mean()),
        "top5_features": float((by_codec < 5).mean()),
        "top1_pixels": float((by_pixels < 1).mean()),
        "top5_pixels": float((by_pixels < 5).mean()),
        "paraphrase_top5": float((by_paraphrase < 5).mean()),
    }
    labels = [names[i] for i in chosen] + [prompt for prompt, _ in others]
    sheet([*drawn, *redrawn], labels, 20).save(options.out / "contact-sheet.png")
    every = range(1, options.passes + 1)
    strips = [artist.draw(prompt, options.seed, every)[:-1] for prompt in STRIP_PROMPTS]
    strip_labels = [
        f"{prompt[:12]} {k + 1}" for prompt in STRIP_PROMPTS for k in range(options.passes)
    ]
    flat = [picture for strip in strips for picture in strip]
    sheet(flat, strip_labels, options.passes).save(options.out / "previews.png")
    result = scores | {
        "seconds_per_image": round(seconds_per_image(artist, options.threads), 4),
        "concepts": len(names),
    }
    for key, value in result.items():
        print(f"{key:20} {value:.3f}" if isinstance(value, float) else f"{key:20} {value}")
    print(f"pictures: {options.out}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
