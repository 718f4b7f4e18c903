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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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

PASSES = 16
GUIDANCE = 5.0
PROMPT = np.array([1, *range(10, 30), 5])
BATCHES = (1, 4, 8)


@dataclass(frozen=True, slots=True)
class JanusShape:
    """Of a language model and the pictures that it draws."""

    name: str
    width: int
    layers: int
    heads: int
    inner: int
    words: int
    side: int
    """Cells across and down."""
    codec: Mapping[str, Any]

    @property
    def cells(self) -> int:
        """Image tokens of a picture."""
        return self.side * self.side

    @property
    def pass_tokens(self) -> int:
        """Of one of PASSES."""
        return self.cells // PASSES


_CODEC = {
    "latent_channels": 32, "base_channels": 32, "channel_multiplier": [1, 1, 1, 1, 2],
    "num_res_blocks": 1,
}  # fmt: skip
SMALL = JanusShape("Janus, 35 M", 512, 8, 8, 1408, 1000, 16, _CODEC)
TINY = JanusShape("tiny Janus", 32, 2, 4, 64, 64, 4, {**_CODEC, "num_embeddings": 64})
ONE_BILLION = JanusShape("Janus-Pro-1B", 2048, 24, 16, 5632, 102_400, 24, {})


def save_checkpoint(folder: Path, shape: JanusShape, dtype: torch.dtype = torch.float32) -> None:
    """Without a tokenizer's words, prompts are ids here, and with next to nothing of what reads
    pictures."""
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=shape.words, hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads, max_position_embeddings=1024,
    )  # fmt: skip
    vision = JanusVisionConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, image_size=16 * shape.side,
        patch_size=16, projection_dim=shape.width, num_image_tokens=shape.cells,
    )  # fmt: skip
    codec = JanusVQVAEConfig(
        projection_dim=shape.width, image_token_embed_dim=shape.width, **shape.codec
    )
    config = JanusConfig(text_config=text, vision_config=vision, vq_config=codec)
    model = JanusForConditionalGeneration(config).to(dtype)
    model.generation_config = GenerationConfig(bos_token_id=1, pad_token_id=0, eos_token_id=2)
    model.generation_config.generation_kwargs = {"boi_token_id": 5}
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    colours = json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]})
    (folder / "preprocessor_config.json").write_text(colours)


def ours(decoder: JanusDecoder, shape: JanusShape, batch: int, tokens: int) -> None:
    """As many whole passes as draw that many tokens."""
    prompt = Conditioning.from_numpy("", input_ids=PROMPT)
    renders = [
        decoder.begin(RenderSpec(str(seed), prompt, seed, PASSES, GUIDANCE), None)
        for seed in range(batch)
    ]
    for _ in range(tokens // shape.pass_tokens):
        decoder.step(renders)
    for render in renders:
        decoder.drop(render)


def stock(model: Any, shape: JanusShape, batch: int, tokens: int) -> None:
    ids = torch.tensor(PROMPT, device=model.device).repeat(batch, 1)
    model.model.vision_model.config.num_image_tokens = tokens
    model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_mode="image",
        guidance_scale=GUIDANCE,
        do_sample=True,
        max_length=len(PROMPT) + shape.cells,
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
        save_checkpoint(Path(folder), SMALL)
        decoder = JanusDecoder(folder, slots=max(BATCHES), dtype=options.dtype)
        model = JanusForConditionalGeneration.from_pretrained(
            folder, dtype=getattr(torch, options.dtype)
        ).eval()
    for batch in BATCHES:
        took = [
            (
                seconds(lambda batch=batch: ours(decoder, SMALL, batch, options.tokens)),
                seconds(lambda batch=batch: stock(model, SMALL, batch, options.tokens)),
            )
            for _ in range(options.times)
        ]
        mine, theirs = (
            batch * options.tokens / statistics.median(each) for each in zip(*took, strict=True)
        )
        print(f"{batch} renders: {mine:6.1f} tokens/s, generate {theirs:6.1f}", flush=True)


if __name__ == "__main__":
    main()
