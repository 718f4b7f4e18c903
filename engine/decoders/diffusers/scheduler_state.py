"""What a scheduler remembers between steps, as safetensors bytes and back; and what it makes of its
last step. Its tables follow from its configuration and the number of steps: they are not state.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

ATTRIBUTES = (
    "_step_index",
    "counter",
    "cur_model_output",
    "cur_sample",
    "derivatives",
    "dt",
    "ets",
    "last_sample",
    "lower_order_nums",
    "mid_point_sigma",
    "model_outputs",
    "prev_derivative",
    "sample",
    "this_order",
    "timestep_list",
)
"""Of all schedulers of diffusers that image pipelines use; each has some."""
_LATENTS, _TREE = "latents", "scheduler"


def state_of(scheduler: object) -> dict[str, Any]:
    """The state now: numbers, None, tensors, and lists of them. A copy; tensors are shared, for
    schedulers replace them and do not change them."""
    held = vars(scheduler)
    return {name: copy.copy(held[name]) for name in ATTRIBUTES if name in held}


def restore(scheduler: object, state: Mapping[str, Any]) -> None:
    """Go on from `state`, after `set_timesteps` and as many steps."""
    for name, value in state.items():
        setattr(scheduler, name, copy.copy(value))


def packed(latents: Tensor, state: Mapping[str, Any]) -> bytes:
    """Latents and a scheduler's state as safetensors bytes."""
    tensors = {_LATENTS: latents}
    tree = json.dumps(_flattened(dict(state), tensors)).encode()
    tensors[_TREE] = torch.frombuffer(bytearray(tree), dtype=torch.uint8)
    return save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})


def unpacked(data: bytes, device: torch.device) -> tuple[Tensor, dict[str, Any]]:
    """What `packed` packed. ValueError, KeyError or SafetensorError for anything else."""
    tensors = {name: tensor.to(device) for name, tensor in load(data).items()}
    state = _grown(json.loads(tensors.pop(_TREE).cpu().numpy().tobytes()), tensors)
    if not isinstance(state, dict) or not state.keys() <= set(ATTRIBUTES):
        raise ValueError("the checkpoint holds no scheduler state")
    return tensors[_LATENTS], state


def _flattened(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON, with {"tensor": its name} in place of each tensor, which goes into `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.clone()  # two names of one memory are refused by safetensors
        return {"tensor": name}
    if isinstance(value, dict):
        return {key: _flattened(entry, tensors) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flattened(entry, tensors) for entry in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def _grown(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]]
        return {key: _grown(entry, tensors) for key, entry in value.items()}
    if isinstance(value, list):
        return [_grown(entry, tensors) for entry in value]
    return value


@dataclass(frozen=True, slots=True)
class SchedulerStep:
    """A call of `scheduler.step`, and what came out."""

    model_output: Tensor
    timestep: Any
    sample: Tensor
    out: Any
    index: int | None
    """The scheduler's `_step_index` at the call."""


def clean_latents(scheduler: Any, step: SchedulerStep) -> Tensor:
    """The latents without noise, as the model sees them at this step: what previews show."""
    for name in ("pred_original_sample", "denoised"):
        found = getattr(step.out, name, None)
        if found is not None:
            return _tensor(found)
    if isinstance(step.out, tuple) and len(step.out) > 1:
        return _tensor(step.out[1])
    kept = getattr(scheduler, "model_outputs", None)
    if kept and kept[-1] is not None and _keeps_clean_latents(scheduler.config):
        return _tensor(kept[-1])
    if hasattr(scheduler, "alphas_cumprod"):
        return _from_alphas(scheduler, step)
    if step.index is not None and hasattr(scheduler, "sigmas"):  # a flow's velocity
        sigma = scheduler.sigmas[step.index].to(step.sample)
        return _tensor(step.sample - sigma * step.model_output)
    return step.sample


def _tensor(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"clean latents are a tensor, not {type(value).__name__}")
    return value


def _keeps_clean_latents(config: Any) -> bool:
    algorithm = config.get("algorithm_type")
    if algorithm is None:
        return bool(config.get("predict_x0", False))
    return algorithm in ("dpmsolver++", "sde-dpmsolver++")


def _from_alphas(scheduler: Any, step: SchedulerStep) -> Tensor:
    """From the product of alphas at this timestep: DDIM's formulas (12) and of v-prediction."""
    at = scheduler.alphas_cumprod[int(step.timestep)].to(step.sample)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind == "sample":
        return step.model_output
    if kind == "v_prediction":
        return _tensor(at.sqrt() * step.sample - (1 - at).sqrt() * step.model_output)
    return _tensor((step.sample - (1 - at).sqrt() * step.model_output) / at.sqrt())
