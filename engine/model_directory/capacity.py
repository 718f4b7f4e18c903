"""How many renders fit the memory of one GPU beside the weights: an estimate, with its formula.

Everything is counted in bfloat16. Weights are exact; activations of a pass and of a decode by the
VAE are rules of thumb: the peak of live tensors in the real classes at their real sizes, counted on
torch's meta device with attention that keeps no scores (`python -m scripts.activation_memory`).
None of it was measured on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.model_directory.component import LoadedBy
from engine.model_directory.directory import ModelDirectory
from engine.model_directory.geometry import (
    VALUE_BYTES,
    is_unet,
    number,
    numbers,
    section,
)

GIB = 2**30
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
USABLE = 0.9
"""Of the memory: the rest is CUDA's own, and lost between blocks."""
UNET_VALUES, TRANSFORMER_VALUES = 26, 18
"""Live values at once for each token and channel of a row; the largest that was counted."""
DECODE_VALUES, VIDEO_DECODE_VALUES = 850, 1750
"""Live values at once for each pixel while a VAE decodes; likewise."""
TEXT_TOKENS = 512
"""Of a prompt, beside the picture's own."""
JANUS_TOKENS = 256 + 128
"""Of a prompt, and of the padding of a batch of 64: places in the cache beside the picture's."""


@dataclass(frozen=True, slots=True)
class SlotEstimate:
    """Of one GPU that holds one decoder replica, for pictures of the checkpoint's own size."""

    slots: int
    """0 where not even one fits."""
    finish_bytes: int
    """Of turning one render's latents into pixels, beside the passes."""
    slot_bytes: int
    formula: str


def estimate_slots(model: ModelDirectory, memory_bytes: float) -> SlotEstimate:
    """OddConfig when the denoiser's config does not say how wide it is."""
    weights = model.bytes_in_bfloat16(LoadedBy.DECODER)
    slot, why = _cache(model) if model.geometry.fixed else _activations(model)
    finish = _decode(model)
    room = USABLE * memory_bytes - weights - finish
    formula = (
        f"slots = ({USABLE:g} x {in_units(memory_bytes)} - weights {in_units(weights)} - a decode "
        f"{in_units(finish)}) / {in_units(slot)} a slot; a slot = {why}"
    )
    return SlotEstimate(max(0, math.floor(room / slot)), finish, slot, formula)


def _activations(model: ModelDirectory) -> tuple[int, str]:
    """Of one render in a forward of the denoiser, and the formula."""
    denoiser, rows = model.component(model.known.denoiser).config, model.known.rows
    unet = is_unet(denoiser)
    values = UNET_VALUES if unet else TRANSFORMER_VALUES
    tokens = model.geometry.tokens + (0 if unet else TEXT_TOKENS)
    wide = _width(denoiser)
    return rows * tokens * wide * values * VALUE_BYTES, (
        f"{rows} row{'s' * (rows > 1)} x {tokens:,} {'cells' if unet else 'tokens'} x {wide:,} "
        f"channels x {values} values x {VALUE_BYTES} bytes"
    )


def _width(denoiser: Mapping[str, Any]) -> int:
    """Channels of a U-Net's first block, or of a transformer."""
    if is_unet(denoiser):
        return number({"width": numbers(denoiser, "block_out_channels")[0]}, "width")
    names = ("hidden_size", "inner_dim", "dim")
    if any(denoiser.get(name) is not None for name in names):
        return number(denoiser, *names)
    return number(denoiser, "num_attention_heads") * number(denoiser, "attention_head_dim")


def _cache(model: ModelDirectory) -> tuple[int, str]:
    """Keys and values of a render that is drawn token by token, and the formula. Guidance has a
    row of its own."""
    text = section(model.config, "text_config")
    layers, heads = number(text, "num_hidden_layers"), number(text, "num_attention_heads")
    kept = number(text, "num_key_value_heads", default=heads)
    wide = kept * number(text, "head_dim", default=number(text, "hidden_size") // heads)
    tokens = model.geometry.tokens + JANUS_TOKENS
    return 2 * 2 * layers * wide * tokens * VALUE_BYTES, (
        f"2 rows x keys and values x {layers} layers x {wide:,} channels x {tokens:,} tokens x "
        f"{VALUE_BYTES} bytes"
    )


def _decode(model: ModelDirectory) -> int:
    names = {part.name: part.config for part in model.components}
    video = "temperal_downsample" in names.get("vae", {})
    values = VIDEO_DECODE_VALUES if video else DECODE_VALUES
    return model.geometry.edge**2 * values * VALUE_BYTES


def in_units(count: float) -> str:
    """Bytes in the largest unit of which there is one: 512 KiB, 22.2 GiB."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.3g} {UNITS[unit]}"
