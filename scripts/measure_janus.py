"""Image tokens a second of the janus family beside transformers' own `generate`:
`python -m scripts.measure_janus`.

A random checkpoint of Janus's kind with 35 M parameters in what runs for a token, 16 x 16 tokens of
16,384, one thread, CPU time. `generate` gets the whole batch at once, prompts of one length.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
)

from engine.decoders.janus.decoder import JanusDecoder
from engine.render import Conditioning, RenderSpec

WIDTH = 512
SIDE = 16
PASSES = 16
GUIDANCE = 5.0
PROMPT = np.array([1, *range(10, 30), 5])
BATCHES = (1, 4, 8)


def save_checkpoint(folder: Path) -> None:
    """Without a tokenizer's words: prompts are ids here."""
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=1000, hidden_size=WIDTH, intermediate_size=1408, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=1024,
    )  # fmt: skip
    vision = JanusVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=16 * SIDE,
        patch_size=16, projection_dim=WIDTH, num_image_tokens=SIDE * SIDE,
    )  # fmt: skip
    codec = JanusVQVAEConfig(
        latent_channels=32, base_channels=32, channel_multiplier=[1, 1, 1, 1, 2], num_res_blocks=1,
        projection_dim=WIDTH, image_token_embed_dim=WIDTH,
    )  # fmt: skip
    config = JanusConfig(text_config=text, vision_config=vision, vq_config=codec)
    model = JanusForConditionalGeneration(config)
    model.generation_config = GenerationConfig(bos_token_id=1, pad_token_id=0, eos_token_id=2)
    model.generation_config.generation_kwargs = {"boi_token_id": 5}
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    colours = json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]})
    (folder / "preprocessor_config.json").write_text(colours)


def ours(decoder: JanusDecoder, batch: int, tokens: int) -> None:
    """As many whole passes as draw that many tokens."""
    prompt = Conditioning.from_numpy("", input_ids=PROMPT)
    renders = [
        decoder.begin(RenderSpec(str(seed), prompt, seed, PASSES, GUIDANCE), None)
        for seed in range(batch)
    ]
    for _ in range(tokens // (SIDE * SIDE // PASSES)):
        decoder.step(renders)
    for render in renders:
        decoder.drop(render)


def stock(model: Any, batch: int, tokens: int) -> None:
    ids = torch.tensor(PROMPT).repeat(batch, 1)
    model.model.vision_model.config.num_image_tokens = tokens
    model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_mode="image",
        guidance_scale=GUIDANCE,
        do_sample=True,
        max_length=len(PROMPT) + SIDE * SIDE,
    )


def seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tokens", type=int, default=64, help="of each render, in whole passes")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder))
        decoder = JanusDecoder(folder, slots=max(BATCHES), dtype=options.dtype)
        model = JanusForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, options.dtype)
        ).eval()
    for batch in BATCHES:
        took = [
            (
                seconds(lambda batch=batch: ours(decoder, batch, options.tokens)),
                seconds(lambda batch=batch: stock(model, batch, options.tokens)),
            )
            for _ in range(options.times)
        ]
        mine, theirs = (
            batch * options.tokens / statistics.median(each) for each in zip(*took, strict=True)
        )
        print(f"{batch} renders: {mine:6.1f} tokens/s, generate {theirs:6.1f}", flush=True)


if __name__ == "__main__":
    main()
