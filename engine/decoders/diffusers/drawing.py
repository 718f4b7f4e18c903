"""One render's stock pipeline call, one scheduler step at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from engine.decoders.diffusers import scheduler_state
from engine.decoders.diffusers.lanes import PipelineLane
from engine.decoders.diffusers.loras import LoraHold
from engine.decoders.diffusers.scheduler_state import SchedulerStep
from engine.decoders.diffusers.seam import Asked, Denoisers, Kind, PipelineCall, cut


@dataclass(frozen=True, slots=True)
class Start:
    """What decides a render: the same start gives the same picture."""

    pipe: Any
    """The loaded pipeline; never changed."""
    arguments: Mapping[str, Any]
    """Of its call, without the generator."""
    seed: int
    key: str
    """Only renders of equal keys may share a forward."""
    loras: LoraHold


@dataclass(frozen=True, slots=True)
class Restored:
    """Where a render goes on."""

    pass_no: int
    latents: Tensor
    """As the last of those steps left them."""
    scheduler: Mapping[str, Any] = field(default_factory=dict)


class Drawing:
    """A pipeline's call in a lane, stopped at the next forward of a model.

    To go on from a checkpoint, the call begins anew and the passes that are done are gone through
    with blank answers: everything but the models runs, so that the generator is drawn from as
    often as before. All of it on one thread.
    """

    def __init__(
        self,
        start: Start,
        models: Denoisers,
        restored: Restored | None = None,
        encoded: list[Any] | None = None,
    ) -> None:
        """Runs to the first forward. encoded: see there. ValueError when `restored` is not of this
        render's size."""
        self.start = start
        self.pass_no = 0
        self.latents: Tensor | None = None
        """As the last step left them."""
        self.last: SchedulerStep | None = None
        self.wants: Asked | None = None
        """The forward that it waits for."""
        self.final: PipelineCall | None = None
        """The VAE's `decode` at the end, which is left to others."""
        self.encoded: list[Any] = [] if encoded is None else encoded
        """What the VAE answered, in order: equal for all calls with this start."""
        self._encodes = 0
        self._models = models
        self._restored = restored
        pipe = copy.copy(start.pipe)
        pipe.scheduler = copy.deepcopy(start.pipe.scheduler)
        self.scheduler = pipe.scheduler
        cut(self.scheduler, "step", Kind.STEP, "scheduler")
        generator = torch.Generator().manual_seed(start.seed)
        self._lane = PipelineLane(lambda: pipe(generator=generator, **start.arguments))
        self._go_on(None)

    def answer(self, answer: Any) -> None:
        """To the forward that it waits for; runs to the next one, or to the end."""
        self._go_on(answer)

    def close(self) -> None:
        """Free what the call holds. It cannot go on after that."""
        self._lane.close()
        vars(self.scheduler).pop("step", None)
        self.wants = None

    def restorable(self) -> tuple[Tensor, dict[str, Any]]:
        """Latents and the scheduler's state after the last pass."""
        if self.latents is None:
            raise RuntimeError("no pass has been done")
        return self.latents, scheduler_state.state_of(self.scheduler)

    def clean_latents(self) -> Tensor:
        """What the model takes the picture to be, after the last pass. Just restored, the latents
        as they are: nothing has been asked yet."""
        if self.latents is None:
            raise RuntimeError("no pass has been done")
        if self.last is None:
            return self.latents
        return scheduler_state.clean_latents(self.scheduler, self.last)

    def to_the_end(self, passes: int, latents: Tensor) -> PipelineCall:
        """The `decode` that this call would come to if its last step left `latents`. Changes
        nothing."""
        other = Drawing(self.start, self._models, Restored(passes, latents), self.encoded)
        other.close()
        if other.final is None or other.pass_no != passes:
            raise RuntimeError(
                f"{type(self.start.pipe).__name__} does not end after {passes} passes"
            )
        return other.final

    @property
    def _is_restoring(self) -> bool:
        return self._restored is not None and self.pass_no < self._restored.pass_no

    def _go_on(self, answer: Any) -> None:
        self.wants = None
        while not self._lane.over:
            call = self._lane.go_on(answer)
            if not isinstance(call, PipelineCall):
                raise RuntimeError(f"{type(self.start.pipe).__name__} ended without a picture")
            if call.kind is Kind.DECODE:
                self.final = call
                self.close()
            elif call.kind is Kind.STEP:
                answer = self._step(call)
            elif call.kind is Kind.ENCODE:
                answer = self._encode(call)
            else:
                asked = Asked(self.start.key, call, call.arguments(), self.start.loras)
                if not self._is_restoring:
                    self.wants = asked
                    return
                answer = self._models.blank(asked)

    def _encode(self, call: PipelineCall) -> Any:
        if self._encodes == len(self.encoded):
            self.encoded.append(call.run())
        self._encodes += 1
        return self.encoded[self._encodes - 1]

    def _step(self, call: PipelineCall) -> Any:
        given = call.arguments()
        index = getattr(self.scheduler, "_step_index", None)
        out = call.run()
        self.pass_no += 1
        restored = self._restored
        if restored is not None and self.pass_no <= restored.pass_no:
            if self.pass_no < restored.pass_no:
                return out
            out = _with_latents(out, restored.latents)
            scheduler_state.restore(self.scheduler, restored.scheduler)
            self.latents = _latents(out)
            return out
        self.latents = _latents(out)
        output, timestep, sample = (given[k] for k in ("model_output", "timestep", "sample"))
        self.last = SchedulerStep(output, timestep, sample, out, index)
        return out


def _latents(out: Any) -> Tensor:
    """What a scheduler's step returns first, as a tuple or as an object."""
    latents = out[0] if isinstance(out, tuple) else out.prev_sample
    if not isinstance(latents, Tensor):
        raise TypeError(f"a scheduler left {type(latents).__name__} for latents")
    return latents


def _with_latents(out: Any, latents: Tensor) -> Any:
    """The same output with other latents; with them also in place of clean ones, which some
    pipelines decode after the last step. ValueError when they are of another size."""
    old = _latents(out)
    if old.shape != latents.shape:
        raise ValueError(f"latents must be {list(old.shape)}, got {list(latents.shape)}")
    new = latents.to(old.device, old.dtype, copy=True)
    if isinstance(out, tuple):
        return tuple(new if isinstance(entry, Tensor) else entry for entry in out)
    return type(out)(**{**out, "prev_sample": new})


def advance(drawings: list[Drawing], models: Denoisers) -> None:
    """One pass for each, with as few forwards as their shapes allow. RuntimeError for one that is
    at its end already."""
    targets = [drawing.pass_no + 1 for drawing in drawings]
    live = list(range(len(drawings)))
    while live:
        asked = [_wanted(drawings[i]) for i in live]
        for i, answer in zip(live, models.answers(asked), strict=True):
            drawings[i].answer(answer)
        live = [i for i in live if drawings[i].pass_no < targets[i]]


def _wanted(drawing: Drawing) -> Asked:
    if drawing.wants is None:
        raise RuntimeError(f"the pipeline has ended after {drawing.pass_no} passes")
    return drawing.wants
