"""LoRAs with random numbers, in the files that diffusers writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict

from engine.decoders.diffusers.table import ARCHITECTURES, CLASSES

NAMES = ("ink", "oil")


def denoiser(checkpoint: str) -> str:
    return ARCHITECTURES[CLASSES[checkpoint].architecture].denoisers[0]


def save_loras(pipe: Any, checkpoint: str, folder: Path) -> dict[str, Path]:
    """Two LoRAs of every linear layer, by name; the pipeline is of no further use."""
    found = {}
    part = denoiser(checkpoint)
    model = getattr(pipe, part)
    linear = LoraConfig(r=2, lora_alpha=0.3, target_modules="all-linear", init_lora_weights=False)
    for seed, name in enumerate(NAMES):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.add_adapter(linear, name)
        found[name] = folder / name
        layers = get_peft_model_state_dict(model, adapter_name=name)
        more = {f"{part}_lora_adapter_metadata": model.peft_config[name].to_dict()}
        pipe.save_lora_weights(found[name], **{f"{part}_lora_layers": layers}, **more)
        model.delete_adapters(name)
    return found
