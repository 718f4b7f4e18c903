"""Renders of made-up content by which a decoder is measured at its start: the longest prompt and
the checkpoint's own size. Prompts are random numbers of the shape that the denoiser's config says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.decoders.diffusers.table import ARCHITECTURES, CLASSES, Task
from engine.render import Conditioning, RenderSpec, Source

GUIDANCE = 4.0
SCALE = 0.1
"""Of the random numbers: text encoders' are small."""
POOLED = "pooled"
"""Of SDXL: what its projection of text and sizes leaves for the text."""

_PROMPT = "prompt_embeds"
_FLUX = {_PROMPT: (512, "joint_attention_dim"), "pooled_prompt_embeds": ("pooled_projection_dim",)}
_CLIP = {_PROMPT: (77, "cross_attention_dim")}

TEXT: Mapping[str, Mapping[str, tuple[int | str, ...]]] = {
    "sd": _CLIP,
    "sdxl": {**_CLIP, "pooled_prompt_embeds": (POOLED,)},
    "lcm": _CLIP,
    "sd3": {**_FLUX, _PROMPT: (333, "joint_attention_dim")},
    "flux": _FLUX,
    "flux-fill": _FLUX,
    "bria": {_PROMPT: (128, "joint_attention_dim")},
    "flux2": {_PROMPT: (512, "joint_attention_dim")},
    "flux2-klein": {_PROMPT: (512, "joint_attention_dim")},
    "qwen-image": {_PROMPT: (1024, "joint_attention_dim"), "prompt_embeds_mask": (1024,)},
    "z-image": {_PROMPT: (512, "cap_feat_dim")},
    "sana": {_PROMPT: (300, "caption_channels"), "prompt_attention_mask": (300,)},
    "pixart": {_PROMPT: (300, "caption_channels"), "prompt_attention_mask": (300,)},
    "lumina2": {_PROMPT: (256, "cap_feat_dim"), "prompt_attention_mask": (256,)},
    "chroma": {_PROMPT: (512, "joint_attention_dim"), "prompt_attention_mask": (512,)},
    "cogview4": {_PROMPT: (224, "text_embed_dim")},
    "auraflow": {_PROMPT: (256, "joint_attention_dim"), "prompt_attention_mask": (256,)},
    "krea2": {
        _PROMPT: (512, "num_text_layers", "text_hidden_dim"),
        "prompt_embeds_mask": (512,),
    },
    "ovis-image": {_PROMPT: (256, "joint_attention_dim")},
    "prx": {_PROMPT: (256, "context_in_dim"), "prompt_attention_mask": (256,)},
    "amused": {_PROMPT: ("cond_embed_dim",), "encoder_hidden_states": (77, "encoder_hidden_size")},
}
"""Of each architecture, the shape of each tensor of a long prompt: lengths, and names of fields in
the denoiser's config."""
MASK_DTYPES: Mapping[str, type] = {"chroma": np.float32, "krea2": np.bool_}
"""Of other architectures int64."""


def trial_spec(pipe: Any, class_name: str, edge: int, number: int, passes: int) -> RenderSpec:
    """A render that the class draws from words, or from what it cannot do without. pipe: loaded."""
    row = CLASSES[class_name]
    picture = np.full((edge, edge, 3), 127, np.uint8)
    asked: dict[str, Any] = {"width": edge, "height": edge}
    if Task.DRAW not in row.tasks and row.references_max:
        asked["references"] = (picture,)
    elif Task.DRAW not in row.tasks:
        redraws = Task.REDRAW in row.tasks
        mask = np.full((edge, edge), 255, np.uint8) if redraws else None
        asked["source"] = Source(picture, np.zeros(0, np.bool_), mask=mask)
    told = _prompt(pipe, row.architecture, number)
    return RenderSpec(f"trial{number}", told, number, passes, GUIDANCE, **asked)


def _prompt(pipe: Any, architecture: str, number: int) -> Conditioning:
    random = np.random.default_rng(number)
    shapes = text_shapes(pipe, architecture)
    negative = ARCHITECTURES[architecture].negative
    arrays = {
        prefix + name: _tensor(name, shape, architecture, random)
        for prefix in (("", "negative_") if negative else ("",))
        for name, shape in shapes.items()
    }
    return Conditioning.from_numpy(f"trial{number}", **arrays)


def text_shapes(pipe: Any, architecture: str) -> dict[str, tuple[int, ...]]:
    """Of each tensor of a long prompt."""
    config = getattr(pipe, ARCHITECTURES[architecture].denoisers[0]).config

    def length(entry: int | str) -> int:
        if isinstance(entry, int):
            return entry
        return _pooled(pipe, config) if entry == POOLED else int(config[entry])

    return {
        name: tuple(length(entry) for entry in shape) for name, shape in TEXT[architecture].items()
    }


def _pooled(pipe: Any, config: Mapping[str, Any]) -> int:
    sizes = 5 if pipe.config.get("requires_aesthetics_score") else 6
    whole = int(config["projection_class_embeddings_input_dim"])
    return whole - sizes * int(config["addition_time_embed_dim"])


def _tensor(
    name: str, shape: tuple[int, ...], architecture: str, random: np.random.Generator
) -> NDArray[Any]:
    if "mask" in name:
        return np.ones(shape, MASK_DTYPES.get(architecture, np.int64))
    return (random.standard_normal(shape) * SCALE).astype(np.float32)
