"""Checkpoints with random weights in the format of diffusers: a UNet and a DiT, large enough that a
pass is arithmetic and small enough for a CPU. Prompts are random tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from engine.render import Conditioning, RenderSpec

EDGE = 128
"""Pixels of each side of what is drawn."""


def _vae(latent_channels: int, **config: Any) -> Any:
    blocks = 4
    return diffusers.AutoencoderKL(
        block_out_channels=(16,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=EDGE,
        **config,
    )


def _unet() -> Any:
    parts = {
        "unet": diffusers.UNet2DConditionModel(
            block_out_channels=(64, 128),
            layers_per_block=2,
            sample_size=EDGE // 8,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
            norm_num_groups=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=80,
            cross_attention_dim=64,
        ),
        "vae": _vae(4),
        "scheduler": diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, steps_offset=1, beta_schedule="scaled_linear"
        ),
    }
    return diffusers.StableDiffusionXLPipeline(**_complete("StableDiffusionXLPipeline", parts))


def _dit() -> Any:
    parts = {
        "transformer": diffusers.SD3Transformer2DModel(
            sample_size=EDGE // 8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=4,
            attention_head_dim=32,
            num_attention_heads=6,
            caption_projection_dim=192,
            joint_attention_dim=64,
            pooled_projection_dim=32,
            pos_embed_max_size=EDGE // 16,
        ),
        "vae": _vae(16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
    return diffusers.StableDiffusion3Pipeline(**_complete("StableDiffusion3Pipeline", parts))


def _complete(name: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """With None for every component that is not there."""
    wanted = getattr(diffusers, name)
    keys: set[str] = wanted._get_signature_keys(wanted)[0]
    return {**dict.fromkeys(keys), **parts}


@dataclass(frozen=True, slots=True)
class Kind:
    """A checkpoint. text: shape of each tensor of a prompt, by its name."""

    build: Callable[[], Any]
    text: Mapping[str, tuple[int, ...]]

    def save(self, folder: Path) -> Path:
        """Write it there."""
        torch.manual_seed(0)
        self.build().save_pretrained(folder, safe_serialization=True)
        return folder

    def spec(self) -> RenderSpec:
        """A render of a random prompt, with guidance."""
        random = np.random.default_rng(0)
        arrays = {
            prefix + name: random.standard_normal(shape).astype(np.float32)
            for prefix in ("", "negative_")
            for name, shape in self.text.items()
        }
        told = Conditioning.from_numpy("0", **arrays)
        return RenderSpec("", told, 0, 4, 4.0, width=EDGE, height=EDGE)


_TEXT = {"prompt_embeds": (77, 64), "pooled_prompt_embeds": (32,)}
KINDS: Mapping[str, Kind] = {
    "UNet (SDXL)": Kind(_unet, _TEXT),
    "DiT (SD3)": Kind(_dit, _TEXT),
}
