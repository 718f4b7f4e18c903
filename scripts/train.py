"""`make train`: rebuild the embedded model from openly licensed pictures; resumes where it stopped.

Stages keep their state under the cache folder; what they make goes to weights/. `--snapshot`
trains nothing and writes the weights as the checkpoints have them, also while a run goes on.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from engine.models.codec import Codec
from engine.models.scene_transformer import SceneTransformer
from scripts.training import sources
from scripts.training.dataset import Pictures, encode_memory, encoded, prepare
from scripts.training.editions import EMOJI, Edition
from scripts.training.export import export
from scripts.training.meanings import make_meanings
from scripts.training.stages import polish_decoder, train_codec, train_transformer
from scripts.weapons.drawings import draw_sets
from scripts.weapons.prompts import SETS
from scripts.weapons.train import train_screen

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "train")
    parser.add_argument("--weights", type=Path, default=ROOT / "weights")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--codec-minutes", type=float)
    parser.add_argument("--transformer-minutes", type=float)
    parser.add_argument("--polish-minutes", type=float)
    parser.add_argument("--screen-minutes", type=float)
    parser.add_argument("--pictures", type=int)
    stages = ("codec", "codes", "transformer", "all")
    parser.add_argument("--until", choices=stages, default="all")
    parser.add_argument(
        "--snapshot", action="store_true", help="export the checkpoints as they are"
    )
    parser.add_argument("--screen", action="store_true", help="train the screen only")
    return parser.parse_args()


def _edition(options: argparse.Namespace) -> Edition:
    chosen = ("codec_minutes", "transformer_minutes", "polish_minutes", "screen_minutes")
    chosen = (*chosen, "pictures")
    given = {name: value for name in chosen if (value := getattr(options, name)) is not None}
    return replace(EMOJI, **given)


def _snapshot(edition: Edition, cache: Path) -> tuple[Codec, SceneTransformer]:
    codec, transformer = Codec(edition.codec), SceneTransformer(edition.transformer)
    for name, module in (("codec", codec), ("transformer", transformer)):
        state = torch.load(cache / edition.name / f"{name}.pt", weights_only=True)
        print(f"{name}: step {state['step']}, {state['elapsed'] / 60:.1f} min", flush=True)
        module.load_state_dict(state["average"])
    polish = cache / edition.name / "polish.pt"
    if polish.exists():
        codec.decoder.load_state_dict(torch.load(polish, weights_only=True)["average"])
    return codec.eval(), transformer.eval()


def _train(
    edition: Edition, pictures: Pictures, cache: Path, until: str
) -> tuple[Codec, SceneTransformer] | None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.monotonic()
    codec = train_codec(edition, pictures, cache, device)
    if until == "codec":
        return None
    codes = encoded(codec, pictures.pixels, device, cache / edition.name)
    print(f"codes ready after {time.monotonic() - started:.0f} s", flush=True)
    memory = encode_memory(codec, pictures)
    if until == "codes":
        return None
    transformer = train_transformer(edition, codes, pictures.layouts, memory, cache, device)
    if until == "transformer":
        return None
    codec = polish_decoder(edition, pictures, codes, codec, cache)
    return codec.cpu(), transformer.cpu()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    edition, folder = _edition(options), options.weights / EMOJI.name
    (options.cache / edition.name).mkdir(parents=True, exist_ok=True)
    pictures = prepare(edition, options.cache)
    print(f"{len(pictures.concepts)} concepts, {len(pictures.layouts)} pictures", flush=True)
    if options.snapshot or options.screen:
        trained = _snapshot(edition, options.cache)
    else:
        found = _train(edition, pictures, options.cache, options.until)
        if found is None:
            return
        trained = found
    codec, transformer = trained
    if not options.screen:
        meanings = make_meanings(pictures.concepts, sources.fetch(options.cache))
        modules = {"codec": codec, "transformer": transformer}
        export(folder, edition, pictures, modules, encode_memory(codec, pictures), meanings)
        print(f"wrote {folder}", flush=True)
    if not options.snapshot and options.until == "all":
        draw_sets(list(SETS), folder)
        train_screen(folder, edition.screen_minutes)


if __name__ == "__main__":
    main()
