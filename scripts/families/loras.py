"""What LoRAs of their own cost the rows of a forward: `python -m scripts.families.loras`.

A random UNet of SDXL's kind with 30 M parameters, four rows of 32 x 32 cells, one thread, CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict

from engine.decoders.diffusers.loras import LoraPool, mixed
from engine.render import LoraUse

RANK = 8
ROWS = 4
MIXED = "three mixed, one row without"
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
ROUND = Callable[[], AbstractContextManager[None]]


def unet() -> Any:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(128, 256),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(4, 8),
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    ).eval()


def save_lora(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    model = unet()
    model.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, init_lora_weights=False), "one"
    )
    layers = get_peft_model_state_dict(model, adapter_name="one")
    StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return folder


def medians(forward: Callable[[], object], rounds: Mapping[str, ROUND], times: int) -> list[float]:
    """Seconds of CPU of a forward in each way. They take turns, after one of each to warm up."""
    took: dict[str, list[float]] = {name: [] for name in rounds}
    for turn in range(times + 1):
        for name, surrounded in rounds.items():
            began = time.process_time()
            with surrounded():
                forward()
            if turn:
                took[name].append(time.process_time() - began)
    return [statistics.median(each) for each in took.values()]


def rounds_of(pool: LoraPool) -> dict[str, ROUND]:
    def drawn_with(*rows: Sequence[LoraUse]) -> ROUND:
        shares = [(1, pool.hold(row)) for row in rows]
        return lambda: mixed(shares)

    one, two, three, half = (LoraUse("0"),), (LoraUse("1"),), (LoraUse("2"),), (LoraUse("0", 0.5),)
    return {
        "none": nullcontext,
        "the same in every row": drawn_with(one, one, one, one),
        MIXED: drawn_with(one, two, (), three),
        "three mixed, one of them twice": drawn_with(one, two, half, three),
        "all three in every row": drawn_with(*[one + two + three] * ROWS),
    }


@torch.inference_mode()
def ratios(times: int) -> dict[str, float]:
    """Images a second over those without LoRAs, by way; prints a line for each."""
    with tempfile.TemporaryDirectory() as folder:
        with torch.inference_mode(False):
            files = {str(seed): save_lora(Path(folder) / str(seed), seed) for seed in range(3)}
        pipe = StableDiffusionXLPipeline(
            *[None] * 5, unet=unet(), scheduler=None, add_watermarker=False
        )
        began = time.process_time()
        pool = LoraPool(pipe, "unet", files)
        loading = (time.process_time() - began) / len(files)
    rows = torch.randn(ROWS, 4, 32, 32), torch.tensor([10, 500, 300, 40]), torch.randn(ROWS, 77, 64)
    more = {"text_embeds": torch.randn(ROWS, 32), "time_ids": torch.randn(ROWS, 6).abs()}
    rounds = rounds_of(pool)
    took = medians(lambda: pipe.unet(*rows, added_cond_kwargs=more), rounds, times)
    lora = pool.hold((LoraUse("0"),)).loras[0][0]
    count = sum(each.numel() for each in pipe.unet.parameters()) / 1e6
    print(f"{count:.0f} M parameters, {len(lora.weights)} LoRA layers of rank {RANK}, {ROWS} rows")
    print(f"a file loaded in {loading * 1000:.0f} ms of CPU")
    for name, each in zip(rounds, took, strict=True):
        print(f"{name:32} {each * 1000:6.0f} ms   images/s against none: {took[0] / each:.3f}")
    return {name: took[0] / each for name, each in zip(rounds, took, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    torch.set_num_threads(1)
    ratios(parser.parse_args().times)


if __name__ == "__main__":
    main()
