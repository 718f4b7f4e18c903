"""Cases of the diffusers family, stock pictures of them, and decoders to draw them with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.decoders.diffusers.decoder import DiffusersDecoder, DiffusersState
from engine.decoders.diffusers.picture_processor import PictureProcessor
from engine.decoders.diffusers.table import ARCHITECTURES, CLASSES, Guidance, Task, classes_by_task
from engine.render import Checkpoint, Conditioning, Pixels, RenderSpec, Source
from engine.tensors import to_torch
from tests.families.checkpoints import EDGE, TINY, WITH_TEXT, save

torch.set_num_threads(1)
SCRATCH: list[Path] = []
"""Where this session's checkpoints are written; see conftest."""

SD = ARCHITECTURES["sd"]
FP32 = 2e-6
"""Most that a picture in 0..1 may differ from the stock pipeline's when renders share forwards."""
LOOSER = {name: 2e-5 for name in TINY if ARCHITECTURES[CLASSES[name].architecture] is SD}
"""DDIM divides by small numbers at its first steps."""


@dataclass(frozen=True)
class Case:
    """A pipeline class that is drawn with some checkpoint."""

    name: str
    checkpoint: str
    task: Task = Task.DRAW

    def __str__(self) -> str:
        return f"{self.name}-{self.task}" if self.task is not Task.DRAW else self.name

    @property
    def tolerance(self) -> float:
        return LOOSER.get(self.checkpoint, FP32)


CASES = [
    Case(name, checkpoint, task)
    for checkpoint in TINY
    for task, name in sorted(classes_by_task(checkpoint).items())
]
"""Every class of the table, for each of its tasks."""


@functools.cache
def folder(checkpoint: str) -> Path:
    return save(checkpoint, SCRATCH[0] / checkpoint)


@functools.cache
def decoder(checkpoint: str, row_chunk: int = 8, number: int = 0) -> DiffusersDecoder:
    """Loaded once; another number is another process's."""
    return DiffusersDecoder(folder(checkpoint), row_chunk=row_chunk)


@functools.cache
def stock(name: str, checkpoint: str) -> Any:
    """The class as a user loads it, without anything of ours."""
    base = loaded_by_user(folder(checkpoint), checkpoint)
    pipe = base if name == checkpoint else getattr(diffusers, name).from_pipe(base)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def loaded_by_user(folder: Path, checkpoint: str, dtype: torch.dtype = torch.float32) -> Any:
    more: dict[str, Any] = {}
    if (folder / "processor").is_dir():  # the whole of it wants torchvision, for videos
        more["processor"] = PictureProcessor.from_pretrained(folder / "processor")
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        str(folder),
        local_files_only=True,
        use_safetensors=True,
        dtype=dtype,
        **dict.fromkeys(_text_parts(checkpoint)),
        **more,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _text_parts(checkpoint: str) -> set[str]:
    wanted = getattr(diffusers, checkpoint)
    keys: set[str] = wanted._get_signature_keys(wanted)[0]
    return keys - TINY[checkpoint].make().keys() - WITH_TEXT.get(checkpoint, dict)().keys()


def conditioning(checkpoint: str, seed: int) -> Conditioning:
    """A prompt, and a negative one where the class reads one."""
    random = np.random.default_rng(seed)
    negative = ARCHITECTURES[CLASSES[checkpoint].architecture].negative
    arrays = {}
    for prefix in ("", "negative_") if negative else ("",):
        for name, shape in TINY[checkpoint].text.items():
            arrays[prefix + name] = _text(name, shape, random, checkpoint)
    return Conditioning.from_numpy(str(seed), **arrays)


def _text(
    name: str, shape: tuple[int, ...], random: np.random.Generator, checkpoint: str
) -> NDArray[Any]:
    if "mask" not in name:
        return random.standard_normal(shape).astype(np.float32)
    kinds: dict[str, Any] = {"ChromaPipeline": np.float32, "Krea2Pipeline": np.bool_}
    mask = np.ones(shape, kinds.get(checkpoint, np.int64))
    mask[len(mask) - int(random.integers(3)) :] = 0
    return mask


def picture(seed: int, width: int = EDGE, height: int = EDGE) -> Pixels:
    """Soft colours."""
    points = np.random.default_rng(seed).uniform(0, 255, (4, 4, 3))
    return points.repeat(height // 4, axis=0).repeat(width // 4, axis=1).astype(np.uint8)


def spec(case: Case, number: int = 0, passes: int = 4, **more: Any) -> RenderSpec:
    """A render of the case; another number is another prompt, seed and source."""
    asked: dict[str, Any] = {
        "conditioning": conditioning(case.checkpoint, number),
        "seed": 10 + number,
        "width": EDGE,
        "height": EDGE,
    }
    if case.task in (Task.REFER, Task.CONTROL):
        asked["references"] = (picture(number),)
    if case.task in (Task.CHANGE, Task.REDRAW):
        mask = None
        if case.task is Task.REDRAW:
            mask = np.zeros((EDGE, EDGE), np.uint8)
            mask[16:48, : EDGE // 2] = 255
        source = Source(picture(number), np.zeros(0, np.bool_), mask=mask, strength=0.8)
        asked["source"] = source
    return RenderSpec(f"render{number}", passes=passes, **{**asked, **more})


def stock_picture(case: Case, spec: RenderSpec, pipe: Any = None) -> NDArray[np.float32]:
    """float32 [height, width, 3] in 0..1: what a user gets from the stock pipeline."""
    pipe = pipe or stock(case.name, case.checkpoint)
    scale = spec.guidance - (1 if case.checkpoint in ("ZImagePipeline", "Krea2Pipeline") else 0)
    asked: dict[str, Any] = {
        ("true_cfg_scale" if "Qwen" in case.name else "guidance_scale"): scale,
    }
    for name, value in spec.conditioning.tensors.items():
        if spec.guidance > 1 or not name.startswith("negative_"):
            tensor = to_torch(value)
            if tensor.is_floating_point():
                tensor = tensor.to(pipe.dtype)
            asked[name] = [tensor] if "ZImage" in case.name else tensor[None]
    takes = inspect.signature(pipe.__call__).parameters
    if "width" in takes:
        asked |= {"width": spec.width, "height": spec.height}
    if "use_resolution_binning" in takes:
        asked |= {"use_resolution_binning": False, "negative_prompt": None}
    if "Ovis" in case.name:
        asked["negative_prompt"] = None
    if "Kontext" in case.name:
        asked |= {"max_area": EDGE * EDGE, "_auto_resize": False}
    asked |= _pictures(case, spec, "control_image" if "control_image" in takes else "image")
    generator = torch.Generator().manual_seed(spec.seed)
    out = pipe(num_inference_steps=spec.passes, generator=generator, output_type="np", **asked)
    found: NDArray[np.float32] = out.images[0]
    return found


def _pictures(case: Case, spec: RenderSpec, control: str) -> dict[str, Any]:
    images = [Image.fromarray(reference) for reference in spec.references]
    if case.task is Task.CONTROL:
        return {control: images[0]}
    if case.task is Task.REFER:
        return {"image": images[0] if CLASSES[case.name].references_max == 1 else images}
    if spec.source is None:
        return {}
    found = {"image": Image.fromarray(spec.source.pixels), "strength": spec.source.strength}
    if spec.source.mask is not None:
        found["mask_image"] = Image.fromarray(spec.source.mask)
    return found


@torch.inference_mode()
def floats(decoder: DiffusersDecoder, state: DiffusersState) -> NDArray[np.float32]:
    """As stock_picture, of a render that has done all its passes."""
    assert state.drawing.final is not None
    shown: NDArray[np.float32] = state.show.floats(state.drawing.final)
    return shown


def draw_alone(decoder: DiffusersDecoder, spec: RenderSpec) -> NDArray[np.float32]:
    return draw_staggered(decoder, [spec])[0]


def draw_staggered(
    decoder: DiffusersDecoder, specs: Sequence[RenderSpec]
) -> list[NDArray[np.float32]]:
    """Each joins a pass after the one before; those that are done leave."""
    waiting = list(specs)
    running: list[tuple[DiffusersState, int]] = []
    done: dict[str, NDArray[np.float32]] = {}
    while waiting or running:
        if waiting:
            new = waiting.pop(0)
            plan = decoder.plan(new)
            running.append((decoder.begin(new, None), plan.passes))
        decoder.step([state for state, _ in running])
        for state, passes in running:
            if state.pass_no == passes:
                done[state.spec.render_id] = floats(decoder, state)
                decoder.drop(state)
        running = [(state, passes) for state, passes in running if state.pass_no < passes]
    return [done[each.render_id] for each in specs]


def checkpoint_after(decoder: DiffusersDecoder, spec: RenderSpec, passes: int) -> Checkpoint:
    state = decoder.begin(spec, None)
    for _ in range(passes):
        decoder.step([state])
    found = decoder.checkpoint(state)
    decoder.drop(state)
    return Checkpoint.from_bytes(found.to_bytes())


def company(case: Case) -> list[RenderSpec]:
    """Three renders with other step counts, seeds, prompts and guidance, one without any."""
    off = ARCHITECTURES[CLASSES[case.name].architecture].guidance is not Guidance.EMBEDDED
    return [
        spec(case, 0, 4, guidance=3.0),
        spec(case, 1, 6, guidance=1.0 if off else 2.0),
        spec(case, 2, 5, guidance=5.0),
    ]
