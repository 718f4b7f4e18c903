"""Small pipelines of the real classes with random weights, and LoRAs for them as diffusers saves
them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model_state_dict


def vae(channels: int) -> AutoencoderKL:
    return AutoencoderKL(
        latent_channels=channels, block_out_channels=(8,), norm_num_groups=4, layers_per_block=1
    )


def unet_pipe(width: int = 32) -> Any:
    """SD 1.5 in small. The same weights each time."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, width),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
        cross_attention_dim=24,
        norm_num_groups=8,
    )
    parts = {"tokenizer": None, "safety_checker": None, "feature_extractor": None}
    scheduler = EulerDiscreteScheduler(steps_offset=1)
    return quiet(
        StableDiffusionPipeline(
            vae=vae(4),
            text_encoder=None,
            unet=unet,
            scheduler=scheduler,
            requires_safety_checker=False,
            **parts,
        )
    )


def sd3_pipe() -> Any:
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=24,
        pooled_projection_dim=12,
        pos_embed_max_size=16,
    )
    text = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3")
    return quiet(
        StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae(4),
            tokenizer_3=None,
            **dict.fromkeys(text),
        )
    )


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    component(pipe).eval()
    return pipe


def component(pipe: Any) -> Any:
    return getattr(pipe, part(pipe))


def part(pipe: Any) -> str:
    return "unet" if hasattr(pipe, "unet") else "transformer"


TARGETS = ["to_q", "to_v", "to_out.0"]


def save_lora(folder: Path, pipe: Any, seed: int, targets: Sequence[str] = TARGETS) -> Path:
    """A random LoRA as diffusers saves it, of rank 3 and with an alpha that is not the rank."""
    torch.manual_seed(seed)
    model = component(pipe)
    config = LoraConfig(
        r=3,
        lora_alpha=2,
        target_modules=list(targets),
        init_lora_weights=False,
        use_rslora=seed > 2,
    )
    model.add_adapter(config, "made")
    pipe.save_lora_weights(
        folder,
        **{f"{part(pipe)}_lora_layers": get_peft_model_state_dict(model, adapter_name="made")},
        **{f"{part(pipe)}_lora_adapter_metadata": model.peft_config["made"].to_dict()},
    )
    return folder
