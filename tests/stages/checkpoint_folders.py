"""Checkpoint folders in the real on-disk form: the fields of released configs that sizes follow
from, and tensors of a few bytes written by the safetensors library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Entries = Mapping[str, tuple[str, str, Mapping[str, Any]]]
"""Of model_index.json: library, class and config of each component."""

KL = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 16}
FLOW = ("diffusers", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0})
CLIP = ("transformers", "CLIPTextModel", {"model_type": "clip_text_model", "hidden_size": 768})
T5 = ("transformers", "T5EncoderModel", {"model_type": "t5", "d_model": 4096})
CLIP_WORDS = ("transformers", "CLIPTokenizer", {"model_max_length": 77})

SDXL: Entries = {
    "scheduler": ("diffusers", "EulerDiscreteScheduler", {"beta_schedule": "scaled_linear"}),
    "text_encoder": CLIP,
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection", CLIP[2]),
    "tokenizer": CLIP_WORDS,
    "tokenizer_2": CLIP_WORDS,
    "unet": (
        "diffusers",
        "UNet2DConditionModel",
        {"sample_size": 128, "block_out_channels": [320, 640, 1280], "in_channels": 4},
    ),
    "vae": ("diffusers", "AutoencoderKL", {**KL, "latent_channels": 4}),
}
FLUX: Entries = {
    "scheduler": FLOW,
    "text_encoder": CLIP,
    "text_encoder_2": T5,
    "tokenizer": CLIP_WORDS,
    "tokenizer_2": ("transformers", "T5TokenizerFast", {"model_max_length": 512}),
    "transformer": (
        "diffusers",
        "FluxTransformer2DModel",
        {"patch_size": 1, "num_attention_heads": 24, "attention_head_dim": 128, "num_layers": 19},
    ),
    "vae": ("diffusers", "AutoencoderKL", KL),
}
QWEN: Entries = {
    "scheduler": FLOW,
    "text_encoder": ("transformers", "Qwen2_5_VLForConditionalGeneration", {"hidden_size": 3584}),
    "tokenizer": ("transformers", "Qwen2Tokenizer", {"model_max_length": 131072}),
    "transformer": (
        "diffusers",
        "QwenImageTransformer2DModel",
        {"patch_size": 2, "num_attention_heads": 24, "attention_head_dim": 128},
    ),
    "vae": (
        "diffusers",
        "AutoencoderKLQwenImage",
        {"z_dim": 16, "temperal_downsample": [False, True, True]},
    ),
}
SANA: Entries = {
    "scheduler": ("diffusers", "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "text_encoder": ("transformers", "Gemma2Model", {"hidden_size": 2304}),
    "tokenizer": ("transformers", "GemmaTokenizerFast", {"model_max_length": 300}),
    "transformer": (
        "diffusers",
        "SanaTransformer2DModel",
        {"sample_size": 32, "patch_size": 1, "num_attention_heads": 70, "attention_head_dim": 32},
    ),
    "vae": (
        "diffusers",
        "AutoencoderDC",
        {"encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024], "latent_channels": 32},
    ),
}
JANUS = {
    "architectures": ["JanusForConditionalGeneration"],
    "model_type": "janus",
    "text_config": {
        "hidden_size": 2048,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
    },
    "vision_config": {"num_image_tokens": 576, "image_size": 384},
    "vq_config": {"channel_multiplier": [1, 1, 2, 2, 4], "num_embeddings": 16384},
}
VALUES = 12
"""Of each of the two tensors that every component with weights has: float16 and float32."""
COMPONENT_BYTES = VALUES * 2 + VALUES * 4


def tensors(prefix: str = "") -> dict[str, np.ndarray[Any, Any]]:
    """Two small tensors of different dtypes."""
    return {
        f"{prefix}proj.weight": np.ones((3, 4), np.float16),
        f"{prefix}proj.bias": np.full(VALUES, 0.5, np.float32),
    }


def pipeline_folder(root: Path, class_name: str, entries: Entries) -> Path:
    """A folder as `save_pretrained` of a diffusers pipeline leaves it."""
    index: dict[str, Any] = {"_class_name": class_name, "_diffusers_version": "0.42.1"}
    root.mkdir(parents=True)
    for name, (library, component_class, config) in entries.items():
        index[name] = [library, component_class]
        write_component(root / name, library, component_class, config)
    index["image_encoder"] = [None, None]
    index["force_zeros_for_empty_prompt"] = True
    write_json(root / "model_index.json", index)
    return root


def write_component(folder: Path, library: str, class_name: str, config: Mapping[str, Any]) -> None:
    """Its config, and weights or vocabulary, under the names that the libraries use."""
    folder.mkdir()
    if class_name.endswith("Scheduler"):
        write_json(folder / "scheduler_config.json", {"_class_name": class_name, **config})
    elif "Tokenizer" in class_name:
        write_json(folder / "tokenizer_config.json", config)
        write_json(folder / "tokenizer.json", {"version": "1.0"})
    else:
        write_json(folder / "config.json", {"_class_name": class_name, **config})
        stem = "diffusion_pytorch_model" if library == "diffusers" else "model"
        save_file(tensors(), folder / f"{stem}.safetensors")


def janus_folder(root: Path) -> Path:
    """A folder as `save_pretrained` of Janus leaves it."""
    root.mkdir(parents=True)
    write_json(root / "config.json", JANUS)
    special: dict[str, Any] = {"bos_token_id": 100000, "pad_token_id": 100015}
    special["generation_kwargs"] = {"boi_token_id": 100016}
    write_json(root / "generation_config.json", special)
    write_json(root / "preprocessor_config.json", {"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    write_json(root / "tokenizer_config.json", {"model_max_length": 16384})
    write_json(root / "tokenizer.json", {"version": "1.0"})
    parts = ("model.language_model.", "model.vqmodel.", "lm_head.")
    whole = {name: tensor for part in parts for name, tensor in tensors(part).items()}
    save_file(whole, root / "model.safetensors")
    return root


def write_json(path: Path, document: object) -> None:
    """As a file."""
    path.write_text(json.dumps(document), encoding="utf-8")
