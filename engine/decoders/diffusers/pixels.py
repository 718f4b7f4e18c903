"""From latents to pixels: the final picture, and previews of three kinds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.decoders.diffusers.seam import PipelineCall
from engine.render import Pixels

Preview = Callable[[PipelineCall], Pixels]
"""From a `decode` that a pipeline would call to a picture of what it would show."""

SOFT_PICTURES, SOFT_EDGE = 8, 128
"""With which the linear map is fitted."""


class NotFinite(ArithmeticError):
    """Latents hold NaN or infinity."""


def are_finite(latents: Sequence[Tensor]) -> list[bool]:
    """Of each, whether every value is a number. The device is waited for once."""
    found: list[bool] = torch.stack([each.isfinite().all() for each in latents]).tolist()
    return found


def check_finite(latents: Tensor) -> None:
    """NotFinite unless every value is a number."""
    if not are_finite([latents])[0]:
        raise NotFinite("the latents hold NaN or infinity")


class PictureDecoder:
    """The VAE of a pipeline, for one thread. It gets a VAE object of its own with the same weights:
    VAEs of videos keep state beside them while they decode. Made before the VAE is cut."""

    def __init__(self, vae: Any, image_processor: Any) -> None:
        self._vae = copy.copy(vae)
        self._image_processor = image_processor

    def __call__(self, call: PipelineCall) -> Pixels:
        """uint8 [height, width, 3] of what this call decodes. NotFinite."""
        return as_pixels(self.floats(call))

    def floats(self, call: PipelineCall) -> NDArray[np.float32]:
        """float32 [height, width, 3] in 0..1, as the stock pipeline gives it. NotFinite."""
        latents, *args = call.args
        check_finite(latents)
        if latents.is_floating_point():
            latents = latents.to(self._vae.dtype)
        decoded = self._vae.decode(latents, *args, **{**call.kwargs, "return_dict": False})[0]
        if decoded.dim() == 5:  # a video of one frame: [rows, channels, frames, height, width]
            decoded = decoded[:, :, 0]
        shown = self._image_processor.postprocess(decoded, output_type="np")[0]
        return np.asarray(shown, np.float32).clip(0, 1)  # some pipelines clip by themselves


def as_pixels(picture: NDArray[np.float32]) -> Pixels:
    """float [height, width, 3], 0..1 -> uint8."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _shown(picture: Tensor) -> Pixels:
    """[3, height, width], -1..1 -> uint8 [height, width, 3]; bytes leave the device, not floats."""
    scaled = (picture.float() * 127.5 + 127.5).clamp(0, 255).round().to(torch.uint8)
    shown: Pixels = scaled.permute(1, 2, 0).contiguous().cpu().numpy()
    return shown


class TinyPreview:
    """An AutoencoderTiny that was trained beside the VAE; it takes the latents as the denoiser has
    them, so that the VAE's scale and shift are undone."""

    def __init__(self, folder: Path, vae: Any) -> None:
        self._tiny = diffusers.AutoencoderTiny.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, dtype=vae.dtype
        ).to(vae.device)
        self._scale = vae.config.get("scaling_factor") or 1.0
        self._shift = vae.config.get("shift_factor") or 0.0

    def __call__(self, call: PipelineCall) -> Pixels:
        latents = (call.args[0].to(self._tiny.dtype) - self._shift) * self._scale
        return _shown(self._tiny.decode(latents, return_dict=False)[0][0])


class LinearPreview:
    """A linear map from each cell of the latents to a colour, fitted on soft pictures that the VAE
    encodes. Blurry, and next to nothing in time."""

    def __init__(self, vae: Any) -> None:
        """ValueError for a VAE whose latents are no numbers of this form."""
        pictures = _soft_pictures().to(vae.device, vae.dtype)
        frames = pictures[:, :, None] if _is_video(vae) else pictures
        latents = _flat(_encoded(vae, frames)).float()  # [8, channels, rows, columns]
        colours = F.interpolate(pictures.float(), latents.shape[2:], mode="area")
        cells = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
        cells = torch.cat([cells, cells.new_ones(len(cells), 1)], dim=1)
        wanted = colours.permute(0, 2, 3, 1).reshape(-1, 3)
        # a little ridge: on a device lstsq knows full rank alone
        square = cells.T @ cells + 1e-4 * torch.eye(cells.shape[1], device=cells.device)
        self._scale = SOFT_EDGE // latents.shape[-1]
        """Pixels to a cell."""
        self._map = torch.linalg.solve(square, cells.T @ wanted)  # [channels + 1, 3]

    def __call__(self, call: PipelineCall) -> Pixels:
        latents = _flat(call.args[0])[0].float().permute(1, 2, 0)  # [rows, columns, channels]
        colours = (latents @ self._map[:-1] + self._map[-1]).permute(2, 0, 1)[None]
        picture = F.interpolate(colours, scale_factor=self._scale, mode="bilinear")[0]
        return _shown(picture)


def _soft_pictures() -> Tensor:
    """[8, 3, edge, edge] in -1..1: random colours at 4 x 4 points and smooth between."""
    random = torch.Generator().manual_seed(0)
    points = torch.rand(SOFT_PICTURES, 3, 4, 4, generator=random) * 2 - 1
    return F.interpolate(points, (SOFT_EDGE, SOFT_EDGE), mode="bicubic").clamp(-1, 1)


def _is_video(vae: Any) -> bool:
    return "temperal_downsample" in vae.config


def _encoded(vae: Any, pictures: Tensor) -> Tensor:
    encoded = vae.encode(pictures)
    if hasattr(encoded, "latent_dist"):
        mode = encoded.latent_dist.mode()
        if isinstance(mode, Tensor):
            return mode
    latent = getattr(encoded, "latent", None)
    if isinstance(latent, Tensor):
        return latent
    raise ValueError(f"{type(vae).__name__} encodes to no latents that a linear map could read")


def _flat(latents: Tensor) -> Tensor:
    """[rows, channels, height, width], of a video its first frame. ValueError."""
    if latents.dim() == 5:
        latents = latents[:, :, 0]
    if latents.dim() != 4:
        raise ValueError(f"latents of the shape {list(latents.shape)} are no grid of cells")
    return latents
