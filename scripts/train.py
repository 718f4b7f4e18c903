"""`make train`: rebuild the embedded model from openly licensed pictures; resumes where it stopped.

Stages keep their state under the cache folder; what they make goes to weights/.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from scripts.training.dataset import encode_all, encode_captions, prepare
from scripts.training.editions import EDITIONS
from scripts.training.stages import train_codec, train_transformer

ROOT = Path(__file__).resolve().parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edition", choices=EDITIONS, default="cpu")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "train")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--codec-minutes", type=float)
    parser.add_argument("--transformer-minutes", type=float)
    parser.add_argument("--pictures", type=int)
    parser.add_argument("--until", choices=("codec", "codes", "all"), default="all")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    edition = EDITIONS[options.edition]
    chosen = ("codec_minutes", "transformer_minutes", "pictures")
    edition = replace(
        edition, **{k: v for k in chosen if (v := getattr(options, k)) is not None}
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = options.cache / edition.name
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    pictures = prepare(edition, options.cache)
    print(f"{len(pictures.concepts)} concepts, {len(pictures.scenes)} pictures", flush=True)
    codec = train_codec(edition, pictures, options.cache, device)
    if options.until == "codec":
        return
    codes = encode_all(codec, pictures.pixels, device)
    print(f"codes ready after {time.monotonic() - started:.0f} s", flush=True)
    captions = encode_captions(pictures.scenes, folder, edition.transformer.text_length)
    if options.until == "codes":
        return
    train_transformer(edition, codes, captions, options.cache, device)


if __name__ == "__main__":
    main()
