"""How much memory the tensors of one forward take at once, in the real classes at real sizes.

`python -m scripts.activation_memory` runs each forward on torch's meta device, where a tensor has a
size and no bytes, and counts what is alive. Attention is taken to keep no scores, as its fused
kernels do. What `engine/model_directory/capacity.py` estimates with is the largest of a kind; a
GPU's allocator and the kernels' own workspace come on top and were not measured.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VALUE_BYTES = 2  # bfloat16
TEXT = 512  # tokens of a prompt


class LiveBytes(TorchDispatchMode):
    """Counts the storages that are made inside of it, and those of them alive at once."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}
        self._weights = [t.untyped_storage() for t in (*module.parameters(), *module.buffers())]
        self._known = {storage._cdata for storage in self._weights}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        answer = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return answer

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._known and key not in self._live:
            self._live[key] = storage.nbytes()
            weakref.finalize(storage, self._live.pop, key, None)
            self.peak = max(self.peak, sum(self._live.values()))


def no_scores(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """What fused attention leaves behind: an output, [..., length, width]."""
    return torch.empty_like(query[..., : value.shape[-1]])


def empty(*shape: int) -> Tensor:
    """An input of this shape."""
    return torch.empty(*shape, device="meta", dtype=torch.bfloat16)


def made(kind: Callable[..., nn.Module], **config: Any) -> nn.Module:
    """A model on the meta device."""
    with torch.device("meta"):
        return kind(**config).to(torch.bfloat16).eval()


def tell(name: str, model: nn.Module, units: int, call: Callable[[Any], object]) -> None:
    """units: tokens times channels, or pixels; the values alive for each are what is wanted."""
    live = LiveBytes(model)
    with torch.inference_mode(), live:
        call(model)
    values = live.peak / VALUE_BYTES / units
    print(f"{name:<24}{live.peak / 2**20:>8.0f} MiB {values:>8.1f} values")


def unets() -> None:
    """U-Nets, one row."""
    sd = made(UNet2DConditionModel, sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    text = empty(1, 77, 768)
    tell("SD 1.5, 512", sd, 64**2 * 320, lambda m: m(empty(1, 4, 64, 64), empty(1), text))
    sdxl = made(
        UNet2DConditionModel,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        up_block_types=(*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    more = {"text_embeds": empty(1, 1280), "time_ids": empty(1, 6)}
    rest = {"encoder_hidden_states": empty(1, 77, 2048), "added_cond_kwargs": more}
    latents = empty(1, 4, 128, 128)
    tell("SDXL, 1024", sdxl, 128**2 * 320, lambda m: m(latents, empty(1), **rest))


def transformers() -> None:
    """Transformers at 1024 x 1024, one row."""
    flux, tokens = made(FluxTransformer2DModel, guidance_embeds=True), 64**2
    inputs = {
        "hidden_states": empty(1, tokens, 64),
        "encoder_hidden_states": empty(1, TEXT, 4096),
        "pooled_projections": empty(1, 768),
        "timestep": empty(1),
        "img_ids": empty(tokens, 3),
        "txt_ids": empty(TEXT, 3),
        "guidance": empty(1),
    }
    tell("FLUX.1, 1024", flux, (tokens + TEXT) * 3072, lambda m: m(**inputs))
    sd3 = made(
        SD3Transformer2DModel,
        num_layers=24,
        num_attention_heads=24,
        caption_projection_dim=1536,
        pos_embed_max_size=192,
    )
    text = {"encoder_hidden_states": empty(1, 333, 4096), "pooled_projections": empty(1, 2048)}
    latents = empty(1, 16, 128, 128)
    tell("SD3, 1024", sd3, (64**2 + 333) * 1536, lambda m: m(latents, **text, timestep=empty(1)))
    sana, latents = made(SanaTransformer2DModel), empty(1, 32, 32, 32)
    words = empty(1, 300, 2304)
    tell("Sana, 1024", sana, 32**2 * 2240, lambda m: m(latents, words, timestep=empty(1)))
    qwen = made(QwenImageTransformer2DModel)
    inputs = {
        "hidden_states": empty(1, tokens, 64),
        "encoder_hidden_states": empty(1, TEXT, 3584),
        "encoder_hidden_states_mask": torch.ones(1, TEXT, device="meta", dtype=torch.bool),
        "timestep": empty(1),
        "img_shapes": [[(1, 64, 64)]],
    }
    tell("Qwen-Image, 1024", qwen, (tokens + TEXT) * 3072, lambda m: m(**inputs))


def decoders() -> None:
    """VAEs that decode one picture of 1024 x 1024."""
    kl = made(
        AutoencoderKL,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
    )
    tell("AutoencoderKL", kl, 1024**2, lambda m: m.decode(empty(1, 16, 128, 128)))
    deep = made(AutoencoderDC)
    tell("AutoencoderDC", deep, 1024**2, lambda m: m.decode(empty(1, 32, 32, 32)))
    video = made(AutoencoderKLQwenImage)
    tell("AutoencoderKLQwenImage", video, 1024**2, lambda m: m.decode(empty(1, 16, 1, 128, 128)))


if __name__ == "__main__":
    functional.scaled_dot_product_attention = no_scores  # type: ignore[assignment]
    print("values alive at once, for each token and channel")
    unets()
    transformers()
    print("values alive at once, for each pixel")
    decoders()
