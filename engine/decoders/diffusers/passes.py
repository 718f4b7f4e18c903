"""How many times a render's pipeline steps its scheduler. Pure: on copies alone."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch

from engine.decoder import RenderRejected


def count_passes(pipe: Any, steps: int, strength: float | None) -> int:
    """As the pipeline's call counts them: some schedulers step twice for most of their steps, and a
    source is gone into only as far as `strength` says. RenderRejected naming the field."""
    scheduler = copy.deepcopy(pipe.scheduler)
    most = int(scheduler.config.get("num_train_timesteps", 1000))
    if not 1 <= steps <= most:
        raise RenderRejected(f"passes must be between 1 and {most}, got {steps}")
    takes = inspect.signature(scheduler.set_timesteps).parameters
    shift = {"mu": 1.0} if "mu" in takes and scheduler.config.get("use_dynamic_shifting") else {}
    try:
        scheduler.set_timesteps(num_inference_steps=steps, **shift)
    except ValueError as error:
        raise RenderRejected(f"passes: {error}") from None
    timesteps = scheduler.timesteps
    if strength is not None:
        probe = copy.copy(pipe)
        probe.scheduler = scheduler
        timesteps, _ = probe.get_timesteps(steps, strength, torch.device("cpu"))
    if not len(timesteps):
        raise RenderRejected(f"source.strength of {strength} leaves no pass of {steps} to do")
    return len(timesteps)
