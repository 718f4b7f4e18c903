"""What a render's checkpoint belongs to: class, weights, scheduler, dtype and library."""

from __future__ import annotations

import hashlib
import json

import diffusers
import torch

from engine.decoders.diffusers.loading import LoadedPipeline


def decoder_identity(loaded: LoadedPipeline, dtype: torch.dtype) -> str:
    """Equal only where a render can go on from another's latents."""
    scheduler = loaded.pipe.scheduler
    config = json.dumps(dict(scheduler.config), sort_keys=True, default=str)
    parts = [loaded.digest, type(scheduler).__name__, config, str(dtype), diffusers.__version__]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"diffusers:{loaded.class_name}:{digest[:16]}"
