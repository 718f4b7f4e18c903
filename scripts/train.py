"""`make train`: rebuild the embedded model from openly licensed pictures; resumes where it stopped.

Stages keep their state under the cache folder; what they make goes to weights/. `--snapshot`
trains nothing and writes the weights as the checkpoints have them, also while a run goes on.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import nn

from engine.models.codec import Codec
from engine.models.enlarger import EnlargerNet
from engine.models.scene_transformer import SceneTransformer
from scripts.training import sources
from scripts.training.dataset import Pictures, encode_memory, encoded, prepare
from scripts.training.editions import EMOJI, Edition
from scripts.training.enlarging import make_pairs, train_enlarger
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
    parser.add_argument("--enlarger-minutes", type=float)
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
    stages = ("codec", "transformer", "polish", "enlarger", "screen")
    chosen = (*(f"{stage}_minutes" for stage in stages), "pictures")
    given = {name: value for name in chosen if (value := getattr(options, name)) is not None}
    return replace(EMOJI, **given)


@dataclass(frozen=True)
class Trained:
    """The networks of an edition, but for its screen, each under the name of its file. The enlarger
    is the last; a snapshot of a run that goes on may lack it."""

    codec: Codec
    transformer: SceneTransformer
    enlarger: EnlargerNet | None

    def parts(self) -> dict[str, nn.Module]:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: module for name, module in named.items() if module is not None}


def _snapshot(edition: Edition, cache: Path) -> Trained:
    enlarges = (cache / edition.name / "enlarger.pt").exists()
    made = Trained(
        Codec(edition.codec),
        SceneTransformer(edition.transformer),
        EnlargerNet(edition.enlarger) if enlarges else None,
    )
    for name, module in made.parts().items():
        state = torch.load(cache / edition.name / f"{name}.pt", weights_only=True)
        print(f"{name}: step {state['step']}, {state['elapsed'] / 60:.1f} min", flush=True)
        module.load_state_dict(state["average"])
    polish = cache / edition.name / "polish.pt"
    if polish.exists():
        made.codec.decoder.load_state_dict(torch.load(polish, weights_only=True)["average"])
    for module in made.parts().values():
        module.eval()
    return made


def _train(edition: Edition, pictures: Pictures, cache: Path, until: str) -> Trained | None:
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
    codec = polish_decoder(edition, pictures, codes, codec, cache).cpu()
    pairs = make_pairs(edition, pictures, codes, codec, cache)
    return Trained(codec, transformer.cpu(), train_enlarger(edition, pairs, cache))


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    edition, folder = _edition(options), options.weights / EMOJI.name
    if options.screen:
        _screen(edition, folder)
        return
    (options.cache / edition.name).mkdir(parents=True, exist_ok=True)
    pictures = prepare(edition, options.cache)
    print(f"{len(pictures.concepts)} concepts, {len(pictures.layouts)} pictures", flush=True)
    if options.snapshot:
        trained = _snapshot(edition, options.cache)
    else:
        found = _train(edition, pictures, options.cache, options.until)
        if found is None:
            return
        trained = found
    meanings = make_meanings(pictures.concepts, sources.fetch(options.cache))
    memory = encode_memory(trained.codec, pictures)
    export(folder, edition, pictures, trained.parts(), memory, meanings)
    print(f"wrote {folder}", flush=True)
    if not options.snapshot and options.until == "all":
        _screen(edition, folder)


def _screen(edition: Edition, folder: Path) -> None:
    """Draws what is missing with the weights of the folder, and puts a screen there."""
    draw_sets(list(SETS), folder)
    print(train_screen(folder, edition.screen_minutes), flush=True)


if __name__ == "__main__":
    main()
