"""Sizes of pictures, latents and checkpoints, from the configs of a checkpoint's parts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.model_directory.json_file import ModelRefused

VALUE_BYTES = 2
"""Of one value of latents or activations in bfloat16, and of one token."""
SAMPLE_SIZE = 128
"""Cells of the latents a side where the denoiser's config does not say it: diffusers' default."""
HISTORY = {
    "DPMSolverMultistepScheduler": 2,
    "DPMSolverSDEScheduler": 2,
    "DEISMultistepScheduler": 2,
    "UniPCMultistepScheduler": 3,
    "HeunDiscreteScheduler": 2,
    "KDPM2DiscreteScheduler": 2,
    "KDPM2AncestralDiscreteScheduler": 2,
    "PNDMScheduler": 5,
}
"""Tensors as large as the latents that a scheduler keeps between passes, at most, so that
checkpoints carry them; none of those that are not named."""


class OddConfig(ValueError):
    """A config lacks a number that sizes follow from; the message names the field."""


@contextmanager
def config_of(source: Path) -> Iterator[None]:
    """An OddConfig inside becomes a ModelRefused that names the file, too."""
    try:
        yield
    except OddConfig as error:
        raise ModelRefused(f"{source}: {error}; download it again") from None


@dataclass(frozen=True, slots=True)
class Geometry:
    """Of one checkpoint; edges are in pixels."""

    edge: int
    """Width and height of a picture for which no size was asked."""
    step: int
    """Width and height must be divisible by it."""
    fixed: bool
    """No other size than `edge` is drawn."""
    tokens: int
    """Of such a picture: what the denoiser attends over; cells of the latents for a U-Net."""
    checkpoint_bytes: int
    """What must be kept of such a render for it to go on elsewhere."""


def vae_scale(vae: Mapping[str, Any]) -> int:
    """Pixels a side of one cell of the latents. OddConfig."""
    if "spatial_compression_ratio" in vae:
        return number(vae, "spatial_compression_ratio")
    if "temperal_downsample" in vae:  # sic: the video VAEs of Wan and Qwen-Image
        return int(2 ** len(numbers(vae, "temperal_downsample")))
    blocks = "encoder_block_out_channels"  # of a deep-compression autoencoder
    return int(2 ** (len(numbers(vae, blocks if blocks in vae else "block_out_channels")) - 1))


def latent_channels(vae: Mapping[str, Any]) -> int:
    """Of a VAE's latents. OddConfig."""
    return number(vae, "latent_channels", "z_dim")


def of_diffusion(
    scale: int, channels: int, denoiser: Mapping[str, Any], scheduler: str, step: int
) -> Geometry:
    """Of latents with so many pixels a side in a cell, and channels. OddConfig about the denoiser's
    config."""
    cells, token = number(denoiser, "sample_size", default=SAMPLE_SIZE), scale
    if not is_unet(denoiser):  # patches, or cells that the pipeline packs
        token = max(step, scale * number(denoiser, "patch_size", default=1))
    values = channels * cells**2 * (1 + HISTORY.get(scheduler, 0))
    edge = max(step, cells * scale // step * step)
    return Geometry(edge, step, False, (edge // token) ** 2, values * VALUE_BYTES)


def is_unet(denoiser: Mapping[str, Any]) -> bool:
    """Else it is a transformer."""
    return "block_out_channels" in denoiser


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A config inside of a config. OddConfig."""
    found = config.get(name)
    if not isinstance(found, dict):
        raise OddConfig(f"{name} must be an object")
    return found


def of_tokens(vision: Mapping[str, Any], codec: Mapping[str, Any]) -> Geometry:
    """Of a square of tokens, drawn one by one, that a VQ decoder decodes. OddConfig."""
    tokens = number(vision, "num_image_tokens")
    edge = math.isqrt(tokens) * 2 ** (len(numbers(codec, "channel_multiplier")) - 1)
    return Geometry(edge, edge, True, tokens, tokens * VALUE_BYTES)


def number(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """The first of these fields that is given. OddConfig unless it is a number from 1 to 2^20."""
    found = next((config[name] for name in names if config.get(name) is not None), default)
    if type(found) is not int or not 1 <= found <= 2**20:
        raise OddConfig(f"{' or '.join(names)} must be a number from 1 to 2^20")
    return found


def numbers(config: Mapping[str, Any], name: str) -> list[Any]:
    """A list of 1 to 16 entries. OddConfig."""
    found = config.get(name)
    if not isinstance(found, list) or not 1 <= len(found) <= 16:
        raise OddConfig(f"{name} must be a list of 1 to 16 entries")
    return found
