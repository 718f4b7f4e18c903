"""The stock pipeline, as one writes it into a server with a lock around it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch

from engine.render import RenderSpec
from engine.tensors import to_torch

WARM, MEASURED = 2, 10


class Stock:
    """One picture at a time."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "model_index.json").read_text())
        absent = [name for name, entry in index.items() if entry == [None, None]]
        self._pipe = diffusers.DiffusionPipeline.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, **dict.fromkeys(absent)
        )
        self._pipe.set_progress_bar_config(disable=True)

    def draw(self, spec: RenderSpec) -> Any:
        """The picture, float [height, width, 3] in 0..1."""
        tensors = spec.conditioning.tensors.items()
        return self._pipe(
            num_inference_steps=spec.passes,
            guidance_scale=spec.guidance,
            generator=torch.Generator().manual_seed(spec.seed),
            width=spec.width,
            height=spec.height,
            output_type="np",
            **{name: to_torch(value)[None] for name, value in tensors},
        ).images[0]

    def seconds_per_pass(self, spec: RenderSpec) -> float:
        """Its decoding counted among the passes."""
        self.draw(replace(spec, passes=WARM))
        began = time.perf_counter()
        self.draw(replace(spec, passes=MEASURED))
        return (time.perf_counter() - began) / MEASURED
