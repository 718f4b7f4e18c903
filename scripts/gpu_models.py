"""Pipelines and checkpoints of the shapes of real models, with random weights made on the device:
what `scripts.bench_gpu` draws with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import nn

from engine.decoders.diffusers.loading import LoadedPipeline
from engine.measuring import WeightsLoad

STD = 0.02
"""Of random weights: small enough that no number overflows."""
Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """A pipeline of this class. edge: pixels on each side of what it draws."""

    name: str
    pipeline: str
    denoiser: str
    model: Callable[[], nn.Module]
    vae: Config
    scheduler: Callable[[], Any]
    edge: int
    steps: int

    def build(self, device: torch.device, dtype: torch.dtype) -> LoadedPipeline:
        """On the device, without any file."""
        began = time.perf_counter()
        torch.manual_seed(0)
        with _made_as(device, dtype):
            parts = {
                self.denoiser: _random(self.model()),
                "vae": _random(diffusers.AutoencoderKL(**self.vae)),
            }
        wanted = getattr(diffusers, self.pipeline)
        missing = dict.fromkeys(wanted._get_signature_keys(wanted)[0])
        pipe = wanted(**{**missing, **parts, "scheduler": self.scheduler()})
        pipe.set_progress_bar_config(disable=True)
        load = WeightsLoad(_bytes(parts.values()), time.perf_counter() - began)
        return LoadedPipeline(pipe, self.pipeline, "0" * 64, load, self.edge)


def _bytes(parts: Any) -> int:
    return sum(p.nbytes for part in parts for p in part.parameters())


@contextmanager
def _made_as(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def _random(model: nn.Module) -> nn.Module:
    """Norms as they are; all else random and small, also what a class leaves at zero."""
    for name, parameter in model.named_parameters():
        if "norm" not in name or parameter.dim() > 1:
            parameter.normal_(std=STD)
    return model.eval().requires_grad_(False)


def _vae(widths: tuple[int, ...], latent_channels: int, **config: Any) -> Config:
    return {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "latent_channels": latent_channels,
        "norm_num_groups": min(32, widths[0] // 2),
        **config,
    }


def _sdxl_unet(**config: Any) -> Callable[[], nn.Module]:
    return lambda: diffusers.UNet2DConditionModel(
        use_linear_projection=True, addition_embed_type="text_time", **config
    )


def _sdxl_scheduler() -> Any:
    return diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        timestep_spacing="leading",
    )  # fmt: skip


def _flux_scheduler() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


_KL = (128, 256, 512, 512)
_FLUX_VAE = {
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False,
    "use_post_quant_conv": False,
}  # fmt: skip

SDXL = Shape(
    "SDXL", "StableDiffusionXLPipeline", "unet",
    _sdxl_unet(
        block_out_channels=(320, 640, 1280), sample_size=128,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        up_block_types=(*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048, addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    ),
    _vae(_KL, 4, layers_per_block=2, scaling_factor=0.13025), _sdxl_scheduler, 1024, 20,
)  # fmt: skip
FLUX = Shape(
    "FLUX-size DiT", "FluxPipeline", "transformer",
    lambda: diffusers.FluxTransformer2DModel(guidance_embeds=True),
    _vae(_KL, 16, layers_per_block=2, **_FLUX_VAE), _flux_scheduler, 1024, 12,
)  # fmt: skip

_SMALL = (8, 8, 8, 8)
TINY_SDXL = Shape(
    "tiny SDXL", "StableDiffusionXLPipeline", "unet",
    _sdxl_unet(
        block_out_channels=(16, 32), sample_size=8, norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
        cross_attention_dim=16, addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    ),
    _vae(_SMALL, 4), _sdxl_scheduler, 64, 4,
)  # fmt: skip
TINY_FLUX = Shape(
    "tiny DiT", "FluxPipeline", "transformer",
    lambda: diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    ),
    _vae(_SMALL, 4, **_FLUX_VAE), _flux_scheduler, 64, 4,
)  # fmt: skip
