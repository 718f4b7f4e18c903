"""The diffusers family: any pipeline class of the table, behind the Decoder protocol."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from engine.cost import PRIOR, PassCost
from engine.decoder import DecodeState, Plan, RendersBroken
from engine.decoders.device import device_of, dtype_of
from engine.decoders.device_memory import device_memory
from engine.decoders.diffusers import scheduler_state
from engine.decoders.diffusers.drawing import Drawing, Restored, Start, advance
from engine.decoders.diffusers.folder import PipelineFolder
from engine.decoders.diffusers.identity import decoder_identity
from engine.decoders.diffusers.loading import LoadedPipeline, load_decoder_side
from engine.decoders.diffusers.loras import LoraPool
from engine.decoders.diffusers.passes import count_passes
from engine.decoders.diffusers.pixels import (
    LinearPreview,
    PictureDecoder,
    Preview,
    TinyPreview,
    are_finite,
    check_finite,
)
from engine.decoders.diffusers.request import (
    PipelineAbilities,
    Request,
    batch_key,
    call_arguments,
    understood,
)
from engine.decoders.diffusers.seam import Denoisers, Kind, cut
from engine.decoders.diffusers.speed import choose_attention, compile_blocks
from engine.decoders.diffusers.table import (
    ARCHITECTURES,
    CLASSES,
    LORAS_LOADED,
    Task,
    classes_by_task,
)
from engine.decoders.diffusers.trial import trial_spec
from engine.decoders.memory import translated
from engine.measuring import TRIAL_PASSES
from engine.render import Checkpoint, Pixels, RenderSpec

logger = logging.getLogger(__name__)

PIXELS_MAX = 2**22
"""Of one picture: 2048 x 2048."""
NO_ROOM = "no room on the device: smaller pictures, or fewer slots, would fit"
CHECKPOINT_SECONDS = 2.0
"""Of passes that may be lost: a checkpoint has 64 KB to some MB of noise."""
ROW_CHUNK = 8
"""Most renders in one forward of a decoder that nothing has measured."""


@dataclass(slots=True, eq=False)
class DiffusersState:
    """One image of this family."""

    spec: RenderSpec
    pass_no: int
    passes: int
    drawing: Drawing
    show: PictureDecoder
    """Of the pipeline that draws it, for `finish` alone."""
    redrawn: None = None


class DiffusersDecoder:
    """weights: a folder in the format of diffusers, or what was loaded of one. row_chunk: most
    renders in one forward; with 1 a picture is what it is alone to the last bit; 0: as many as are
    measured to draw fastest. memory_gib: what the process may hold on its device; 0.0: what is free
    there. measure: see Measurable. compile, attention: see speed.py, and "" for the library's own
    choice. threads: torch's number of threads in this process, 0 leaves it alone. device: as of the
    masked family. dtype: "float32", "bfloat16", "float16", or "auto": see device.py. previews:
    "linear", "vae", or the folder of an AutoencoderTiny. loras: files or folders of LoRAs by the
    names that requests use, of which at most loras_loaded are in memory beside those in use.
    """

    def __init__(  # noqa: PLR0913 - all but the first have a default
        self,
        weights: Path | str | LoadedPipeline,
        *,
        row_chunk: int = 0,
        memory_gib: float = 0.0,
        measure: bool = True,
        compile: bool = False,
        attention: str = "",
        threads: int = 0,
        device: str = "auto",
        dtype: str = "auto",
        previews: str = "linear",
        loras: Mapping[str, str] | None = None,
        loras_loaded: int = LORAS_LOADED,
    ) -> None:
        """Raises ModelRefused, UnknownPipeline or OSError naming what cannot be loaded, ValueError
        for an option that this model or machine cannot follow."""
        if threads:
            torch.set_num_threads(threads)
        if compile and loras:
            raise ValueError("compile must be false: compiled blocks do not see loras")
        self._device = device_of(device)
        self._dtype = dtype_of(dtype, self._device)
        self.memory = device_memory(self._device, memory_gib)
        loaded = weights if isinstance(weights, LoadedPipeline) else self._loaded(Path(weights))
        self.load = loaded.load
        self.measure = measure
        self.fixed_width = row_chunk or None
        self.trial_pictures = 0.0
        self._class_name = loaded.class_name
        self._cost = PRIOR
        self.pipe = loaded.pipe
        """The pipeline that was loaded: its components are shared by all renders."""
        classes = classes_by_task(loaded.class_name)
        self._pipes = _pipelines(loaded, classes)
        self.picture_size = (loaded.edge, loaded.edge)
        self._count = functools.lru_cache(256)(self._count_passes)
        self._abilities = PipelineAbilities(classes, self.picture_size, PIXELS_MAX)
        self.model = decoder_identity(loaded, self._dtype)
        denoiser = ARCHITECTURES[CLASSES[loaded.class_name].architecture].denoisers[0]
        self.loras = LoraPool(loaded.pipe, denoiser, loras or {}, loras_loaded)
        _quicken(loaded, compile, attention)
        self._take_calls(loaded, previews, row_chunk or ROW_CHUNK)

    def _loaded(self, weights: Path) -> LoadedPipeline:
        return load_decoder_side(PipelineFolder.open(weights), self._device, self._dtype)

    @torch.inference_mode()
    def _take_calls(self, loaded: LoadedPipeline, previews: str, row_chunk: int) -> None:
        """Cut the shared components; what is to run outside of lanes is taken before."""
        vae = _vae(loaded.pipe)
        self._shows = {n: PictureDecoder(vae, p.image_processor) for n, p in self._pipes.items()}
        own = {n: PictureDecoder(vae, p.image_processor) for n, p in self._pipes.items()}
        self._previews = {name: _preview(previews, vae, show) for name, show in own.items()}
        row = ARCHITECTURES[CLASSES[loaded.class_name].architecture]
        self.models = Denoisers(loaded.pipe, row.denoisers, row.merge, row_chunk)
        cut(vae, "encode", Kind.ENCODE, "vae")
        cut(vae, "decode", Kind.DECODE, "vae")

    def plan(self, spec: RenderSpec) -> Plan:
        request = understood(spec, self._abilities)
        self.loras.check(spec.loras)
        passes = self._passes(spec, request)
        seconds = self._cost.seconds(1) * self._share(spec, request)
        return Plan(passes, batch_key(request), seconds, CHECKPOINT_SECONDS)

    def _share(self, spec: RenderSpec, request: Request) -> float:
        """Of the cost of a pass of the checkpoint's own size with guidance."""
        own = self.picture_size[0] * self.picture_size[1]
        halved = bool(request.architecture.negative) and spec.guidance <= 1
        return request.width * request.height / own / (2 if halved else 1)

    def _count_passes(self, class_name: str, steps: int, strength: float | None) -> int:
        return count_passes(self._pipes[class_name], steps, strength)

    def _passes(self, spec: RenderSpec, request: Request) -> int:
        changes = request.task in (Task.CHANGE, Task.REDRAW)
        strength = spec.source.strength if spec.source is not None and changes else None
        return self._count(request.class_name, spec.passes, strength)

    @torch.inference_mode()
    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> DiffusersState:
        self.models.refuse_caches()
        request = understood(spec, self._abilities)
        pipe = self._pipes[request.class_name]
        takes = frozenset(inspect.signature(pipe.__call__).parameters)
        arguments = call_arguments(spec, request, takes, self._device, self._dtype)
        with translated(NO_ROOM):
            loras = self.loras.hold(spec.loras)
            start = Start(pipe, arguments, spec.seed, batch_key(request), loras)
            restored = None if checkpoint is None else self._restored(checkpoint, loras.identity)
            drawing = Drawing(start, self.models, restored)
        passes = self._passes(spec, request)
        show = self._shows[request.class_name]
        return DiffusersState(spec, drawing.pass_no, passes, drawing, show)

    def _restored(self, checkpoint: Checkpoint, loras: str) -> Restored:
        """ValueError or the like for bytes that are no state of this family and these LoRAs."""
        drawn_with, _, packed = checkpoint.state.partition(b"\0")
        if drawn_with.decode() != loras:
            raise ValueError(f"the checkpoint is of LoRAs {drawn_with.decode()!r}, not {loras!r}")
        latents, state = scheduler_state.unpacked(packed, self._device)
        check_finite(latents)
        return Restored(checkpoint.pass_no, latents, state)

    @torch.inference_mode()
    def step(self, batch: Sequence[DecodeState]) -> None:
        renders = [_mine(render) for render in batch]
        with translated(NO_ROOM):
            advance([render.drawing for render in renders], self.models)
        for render in renders:
            render.pass_no = render.drawing.pass_no
        whole = are_finite([render.drawing.restorable()[0] for render in renders])
        if broken := [render for render, well in zip(renders, whole, strict=True) if not well]:
            raise RendersBroken(broken, "the latents hold NaN or infinity")

    @torch.inference_mode()
    def preview(self, render: DecodeState) -> Pixels:
        mine = _mine(render)
        show = self._previews[type(mine.drawing.start.pipe).__name__]
        with translated(NO_ROOM):
            call = mine.drawing.to_the_end(mine.passes, mine.drawing.clean_latents())
            return show(call)

    @torch.inference_mode()
    def checkpoint(self, render: DecodeState) -> Checkpoint:
        mine = _mine(render)
        latents, state = mine.drawing.restorable()
        packed = scheduler_state.packed(latents, state)
        loras = mine.drawing.start.loras.identity.encode()
        return Checkpoint(self.model, mine.pass_no, mine.spec.seed, loras + b"\0" + packed)

    @torch.inference_mode()
    def finish(self, render: DecodeState) -> Pixels:
        mine = _mine(render)
        if mine.drawing.final is None:
            raise RuntimeError(f"the pipeline goes on after {mine.pass_no} passes")
        with translated(NO_ROOM):
            return mine.show(mine.drawing.final)

    def trial(self, number: int) -> RenderSpec:
        """See Measurable."""
        edge = self.picture_size[0]
        return trial_spec(self.pipe, self._class_name, edge, number, TRIAL_PASSES)

    def adopt(self, width: int, cost: PassCost) -> None:
        """See Measurable."""
        self.models.row_chunk = width
        self._cost = cost

    @torch.inference_mode()
    def pixels_now(self, render: DecodeState) -> Pixels:
        """See Measurable."""
        mine = _mine(render)
        latents, _ = mine.drawing.restorable()
        with translated(NO_ROOM):
            return mine.show(mine.drawing.to_the_end(mine.passes, latents.nan_to_num()))

    @torch.inference_mode()
    def drop(self, render: DecodeState) -> None:
        """Frees what its pipeline's call holds, at once."""
        _mine(render).drawing.close()


def _pipelines(loaded: LoadedPipeline, classes: Mapping[Task, str]) -> dict[str, Any]:
    """One for each class that draws with these components, by its name. Not by `from_pipe`, which
    makes float32 of them."""
    pipes: dict[str, Any] = {loaded.class_name: loaded.pipe}
    parts = {**loaded.pipe.config, **loaded.pipe.components}
    for name in set(classes.values()) - pipes.keys():
        wanted = getattr(diffusers, name)
        takes = inspect.signature(wanted.__init__).parameters.keys() - {"self"}
        pipes[name] = wanted(**{key: value for key, value in parts.items() if key in takes})
        pipes[name].set_progress_bar_config(disable=True)
    return pipes


def _quicken(loaded: LoadedPipeline, compiles: bool, attention: str) -> None:
    names = ARCHITECTURES[CLASSES[loaded.class_name].architecture].denoisers
    denoisers = [part for name in names if (part := getattr(loaded.pipe, name, None))]
    if attention:
        choose_attention(denoisers, attention)
    if compiles:
        compile_blocks(denoisers)


def _vae(pipe: Any) -> Any:
    return getattr(pipe, "vae", None) or pipe.vqvae


def _preview(kind: str, vae: Any, show: PictureDecoder) -> Preview:
    """By the option `previews`. A VAE that the linear map cannot read decodes previews itself."""
    if kind == "vae":
        return show
    if kind != "linear":
        return TinyPreview(Path(kind), vae)
    try:
        return LinearPreview(vae)
    except ValueError as error:
        logger.warning("previews are decoded by the VAE: %s", error)
        return show


def _mine(render: DecodeState) -> DiffusersState:
    if not isinstance(render, DiffusersState):
        raise TypeError(f"not a render of the diffusers family: {render!r}")
    return render
