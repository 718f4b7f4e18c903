"""From a render's spec to what a pipeline's call takes: what is asked for, whether this class can
draw it, and the arguments. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.decoder import OtherEncoder, RenderRejected
from engine.decoders.diffusers.table import ARCHITECTURES, CLASSES, Architecture, Task
from engine.render import Conditioning, Pixels, RenderSpec, Source
from engine.tensors import to_torch

GUIDANCE_MAX = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a render asks of which class."""

    class_name: str
    task: Task
    width: int
    height: int
    references: tuple[Pixels, ...] = ()
    """What the model looks at, or is controlled by."""
    mask: NDArray[np.uint8] | None = None
    """[height, width]: 255 where a source is drawn anew."""

    @property
    def architecture(self) -> Architecture:
        """Of the class."""
        return ARCHITECTURES[CLASSES[self.class_name].architecture]


@dataclass(frozen=True, slots=True)
class PipelineAbilities:
    """What a loaded checkpoint can be asked for."""

    classes: Mapping[Task, str]
    picture_size: tuple[int, int]
    """Width and height where a render names none."""
    pixels_max: int
    """Of one picture, and of one reference."""


def understood(spec: RenderSpec, abilities: PipelineAbilities) -> Request:
    """RenderRejected naming the field that cannot be drawn."""
    width, height = (
        own if asked is None else asked
        for asked, own in zip((spec.width, spec.height), abilities.picture_size, strict=True)
    )
    architecture = ARCHITECTURES[CLASSES[next(iter(abilities.classes.values()))].architecture]
    _check_size(width, height, architecture.size_multiple, abilities.pixels_max)
    _check_source(spec.source, width, height)
    mask = None if spec.source is None else spec.source.mask
    task, references = _task(spec, mask is not None, abilities.classes)
    if task not in abilities.classes:
        raise RenderRejected(_CANNOT[task])
    request = Request(abilities.classes[task], task, width, height, references, mask)
    _check_text(spec, architecture)
    _check_references(request, abilities.pixels_max)
    if not 0 < spec.guidance <= GUIDANCE_MAX:
        raise RenderRejected(f"guidance must be above 0 and at most {GUIDANCE_MAX}")
    return request


_CANNOT = {
    Task.DRAW: "references must hold a picture: this model draws along one",
    Task.CHANGE: "source must be empty: this model does not change pictures",
    Task.REDRAW: "source must be redrawn as a whole: this model does not redraw parts of pictures",
    Task.REFER: "references must be empty: this model does not look at pictures",
    Task.CONTROL: "references must be empty: this model does not look at pictures",
}


def _task(
    spec: RenderSpec, masked: bool, can: Mapping[Task, str]
) -> tuple[Task, tuple[Pixels, ...]]:
    """What is asked for, and the pictures to look at."""
    if spec.source is None:
        looks = Task.CONTROL if Task.CONTROL in can else Task.REFER
        return (looks if spec.references else Task.DRAW), spec.references
    if spec.references:
        raise RenderRejected("references must be empty beside a source")
    return (Task.REDRAW if masked else Task.CHANGE), ()


def _check_size(width: int, height: int, multiple: int, pixels_max: int) -> None:
    for name, length in (("width", width), ("height", height)):
        if length < multiple or length % multiple:
            raise RenderRejected(f"{name} must be a multiple of {multiple}, got {length}")
    if width * height > pixels_max:
        raise RenderRejected(
            f"width x height must be at most {pixels_max} pixels, got {width} x {height}"
        )


def _check_text(spec: RenderSpec, architecture: Architecture) -> None:
    """All of a prompt is there, the negative one too where guidance needs it, and nothing else;
    OtherEncoder."""
    given = spec.conditioning.tensors.keys()
    guided = bool(architecture.negative) and spec.guidance > 1
    for name in (*architecture.text, *(architecture.negative if guided else ())):
        if name not in given and name.removeprefix("negative_") not in architecture.optional_text:
            raise OtherEncoder(f"conditioning: {name} is missing")
    if unknown := given - {*architecture.text, *architecture.negative}:
        raise OtherEncoder(f"conditioning: {min(unknown)} is not what this model reads")


def _check_references(request: Request, pixels_max: int) -> None:
    for i, picture in enumerate(request.references):
        right = picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
        if not right or not 0 < picture.shape[0] * picture.shape[1] <= pixels_max:
            raise RenderRejected(
                f"references[{i}] must be uint8 [height, width, 3] of at most {pixels_max} pixels"
            )
    most = CLASSES[request.class_name].references_max
    if len(request.references) > most:
        raise RenderRejected(f"references must be at most {most}, got {len(request.references)}")


def _check_source(source: Source | None, width: int, height: int) -> None:
    if source is None:
        return
    if source.pixels.shape != (height, width, 3) or source.pixels.dtype != np.uint8:
        raise RenderRejected(
            f"source.pixels must be uint8 [{height}, {width}, 3], got "
            f"{source.pixels.dtype} {list(source.pixels.shape)}"
        )
    mask = source.mask
    if mask is not None and (mask.shape != (height, width) or mask.dtype != np.uint8):
        raise RenderRejected(
            f"source.mask must be uint8 [{height}, {width}], got {mask.dtype} {list(mask.shape)}"
        )
    if not 0 < source.strength <= 1:
        raise RenderRejected(
            f"source.strength must be above 0 and at most 1, got {source.strength}"
        )


def batch_key(request: Request) -> str:
    """Equal where forwards may be merged: ids of positions have no batch dimension and follow from
    the sizes, and equal numbers of tokens do not make them equal."""
    seen = ",".join(f"{p.shape[1]}x{p.shape[0]}" for p in request.references)
    return f"diffusers:{request.class_name}:{request.width}x{request.height}:{seen}"


def call_arguments(
    spec: RenderSpec,
    request: Request,
    takes: frozenset[str],
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Of the pipeline's call, without the generator. takes: names in its signature."""
    architecture = request.architecture
    arguments = {
        "num_inference_steps": spec.passes,
        architecture.guidance_argument: spec.guidance - 1 + architecture.guidance_off,
        "width": request.width,
        "height": request.height,
        "max_area": request.width * request.height,
        "output_type": "pt",
        **CLASSES[request.class_name].arguments,
        **_pictures(spec, request),
    }
    known = {name: value for name, value in arguments.items() if name in takes}
    return known | _text(spec, architecture, device, dtype)


def _text(
    spec: RenderSpec, architecture: Architecture, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """One row each; a negative prompt only where guidance is on."""
    names = architecture.text + (architecture.negative if spec.guidance > 1 else ())
    tensors = tensors_of(spec.conditioning, device, dtype)
    rows = {name: tensors[name] for name in names if name in tensors}
    if architecture.listed_text:
        return {name: [row] for name, row in rows.items()}
    return {name: row[None] for name, row in rows.items()}


def tensors_of(
    conditioning: Conditioning, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """By name; floating ones in the models' dtype."""
    found = {name: to_torch(value).to(device) for name, value in conditioning.tensors.items()}
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in found.items()}


def _pictures(spec: RenderSpec, request: Request) -> dict[str, Any]:
    references = [_image(picture) for picture in request.references]
    if request.task is Task.CONTROL:
        return {CLASSES[request.class_name].control_argument: references[0]}
    if references:
        one = CLASSES[request.class_name].references_max == 1
        return {"image": references[0] if one else references}
    source = spec.source
    if source is None:
        return {}
    found = {"image": _image(source.pixels), "strength": source.strength}
    if request.mask is not None:
        found["mask_image"] = Image.fromarray(request.mask)
    return found


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))
