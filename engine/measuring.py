"""Measures a decoder before its first render: what fits its device's memory, how long a pass takes
by width, and how wide a forward shall be. It has drawn a picture when it is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from engine.cost import PassCost
from engine.decoder import Decoder, DecodeState, OutOfMemory, RendersBroken
from engine.footprint import DoesNotFit, Footprint, buckets, choose_width
from engine.model_directory.capacity import GIB, in_units
from engine.render import Pixels, RenderSpec

logger = logging.getLogger(__name__)

BUDGET_SECONDS = 20.0
"""Of timed passes: wider forwards than fit into it are not measured, and not chosen."""
TIMED = 2
"""Passes of each width, after one that warms up; the quicker one counts."""
TRIAL_PASSES = 40
"""Of a trial's render, where the family draws as many as that."""


class CannotDraw(RuntimeError):
    """A decoder that draws nothing; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class WeightsLoad:
    """How long a checkpoint took from its files onto the device, with the check of its digest."""

    size_bytes: int
    seconds: float

    @property
    def seconds_per_gb(self) -> float:
        """1 GB: 10**9 bytes."""
        return self.seconds * 1e9 / self.size_bytes if self.size_bytes else 0.0


@dataclass(slots=True)
class Peak:
    """What was held at most inside of a `with`; right after it."""

    held: int = 0


class Memory(Protocol):
    """Of a decoder's device, as far as this process may use it."""

    def held(self) -> int:
        """Bytes of this process now."""

    def usable(self) -> int:
        """Bytes that it may hold, with those that it holds."""

    def peak(self) -> AbstractContextManager[Peak]:
        """Measures what is held at most inside."""


@runtime_checkable
class Measurable(Decoder, Protocol):
    """A family whose decoders are measured at their start, unless its option `measure` is false."""

    measure: bool
    load: WeightsLoad
    memory: Memory
    fixed_width: int | None
    """Most renders in one forward, where it is not to be chosen by measurement."""
    trial_pictures: float
    """Share of a picture that a pass of a trial draws, where it is not one of as many passes as the
    quality says; 0.0 elsewhere."""

    def trial(self, number: int) -> RenderSpec:
        """A render of the checkpoint's own size with guidance and the longest prompt, of made-up
        content, with TRIAL_PASSES passes or fewer, but more than TIMED."""

    def adopt(self, width: int, cost: PassCost) -> None:
        """From now on at most that many renders in one forward, of this cost for `plan`."""

    def pixels_now(self, render: DecodeState) -> Pixels:
        """As `finish`, of a render that has not done all its passes."""


@dataclass(frozen=True, slots=True)
class StartReport:
    """What a decoder measured at its start."""

    width: int
    """Most renders in one forward."""
    pass_seconds: float
    """GPU-seconds of one pass of one image in such a forward."""
    seconds: Mapping[int, float]
    """Of a pass, by width."""
    footprint: Footprint
    load: WeightsLoad
    trial_pictures: float = 0.0
    """See Measurable."""

    def pass_seconds_of(self, passes: int) -> float:
        """Of an image that has so many passes."""
        if not self.trial_pictures:
            return self.pass_seconds
        return self.pass_seconds / self.trial_pictures / passes

    def sentences(self, slots: int) -> str:
        """For the log."""
        footprint, load = self.footprint, self.load
        times = ", ".join(f"{width}: {took * 1000:.1f}" for width, took in self.seconds.items())
        return (
            f"weights of {in_units(load.size_bytes)} loaded in {load.seconds:.1f} s, "
            f"{load.seconds_per_gb:.2f} s per GB; ms of a pass by width {times}; forwards of "
            f"{self.width}; {slots} slots hold at most "
            f"{in_units(footprint.total(slots, self.width))} of {in_units(footprint.usable)}"
        )

    def numbers(self) -> dict[str, float]:
        """Those that are announced."""
        return {
            "width": self.width,
            "pass_seconds": self.pass_seconds,
            "weights_gib": self.footprint.weights / GIB,
            "usable_gib": self.footprint.usable / GIB,
            "load_seconds": self.load.seconds,
            "load_seconds_per_gb": self.load.seconds_per_gb,
        }


def start_report(decoder: Decoder, slots: int) -> StartReport | None:
    """As `measured`; None of a decoder that is not to be. CannotDraw when it draws no picture."""
    if not isinstance(decoder, Measurable) or not decoder.measure:
        return None
    try:
        return measured(decoder, slots)
    except DoesNotFit:
        raise
    except Exception as error:
        raise CannotDraw(
            f"the picture of a made-up prompt at the start was not drawn: {error!r}; where real "
            "ones are, options.measure: false starts without it"
        ) from error


def measured(
    decoder: Measurable, slots: int, clock: Callable[[], float] = time.perf_counter
) -> StartReport:
    """Measure and adopt. DoesNotFit when so many slots find no room; else what the family raises
    when it cannot draw."""
    fixed = decoder.fixed_width
    trial = _Trial(decoder, clock)
    trial.run(buckets(min(slots, fixed or slots)))
    footprint, seconds = trial.footprint(), trial.seconds
    width = fixed or choose_width(footprint, slots, seconds)
    if not footprint.fits(slots, width):
        raise DoesNotFit(footprint.refusal(slots, width))
    widest = min(width, max(seconds))
    decoder.adopt(width, _line(seconds, widest))
    share = seconds[widest] / widest
    return StartReport(width, share, seconds, footprint, decoder.load, decoder.trial_pictures)


@dataclass(slots=True)
class _Trial:
    decoder: Measurable
    clock: Callable[[], float]
    seconds: dict[int, float] = field(default_factory=dict)
    _passes: dict[int, int] = field(default_factory=dict)
    _states: list[DecodeState] = field(default_factory=list)
    _weights: int = 0
    _render: int = 0
    _decode: int = 0
    _usable: int = 0
    _spent: float = 0.0

    def run(self, widths: Sequence[int]) -> None:
        memory = self.decoder.memory
        self._weights = memory.held()
        self._usable = memory.usable()
        self.decoder.adopt(widths[-1], PassCost(0.0, 0.0))
        try:
            self._measure_passes(widths)
        finally:
            for state in self._states:
                self.decoder.drop(state)
            self._states.clear()

    def footprint(self) -> Footprint:
        return Footprint(self._usable, self._weights, self._render, self._decode, self._passes)

    def _measure_passes(self, widths: Sequence[int]) -> None:
        try:
            for width in widths:
                if self.seconds and not self._in_time(width):
                    logger.info("forwards of %d and more are not measured: too slow", width)
                    return
                self._measure(width)
        except OutOfMemory as error:
            if not self.seconds or not self._decode:
                raise DoesNotFit(
                    f"slots: not even one render fits beside weights of "
                    f"{in_units(self._weights)}, and this process may hold "
                    f"{in_units(self._usable)}: {error}"
                ) from None
            logger.info("forwards of %d renders find no room", len(self._states))

    def _measure(self, width: int) -> None:
        memory = self.decoder.memory
        self._states = [self._fresh(state) for state in self._states]
        while len(self._states) < width:
            self._states.append(self._begun())
        self._step()  # warms up
        held = memory.held()
        self._render = max(self._render, (held - self._weights) // width)
        with memory.peak() as peak:
            took = min(self._timed() for _ in range(TIMED))
        self.seconds[width], self._passes[width] = took, max(0, peak.held - held)
        if width == 1:
            with memory.peak() as peak:
                self.decoder.pixels_now(self._states[0])
            self._decode = max(1, peak.held - held)

    def _begun(self) -> DecodeState:
        return self.decoder.begin(self.decoder.trial(len(self._states)), None)

    def _fresh(self, state: DecodeState) -> DecodeState:
        """Itself, or another one where it has too few passes left."""
        if state.pass_no + TIMED + 1 < self.decoder.plan(state.spec).passes:
            return state
        self.decoder.drop(state)
        return self._begun()

    def _step(self) -> None:
        with suppress(RendersBroken):  # made-up prompts may break the numbers: the time is the same
            self.decoder.step(self._states)

    def _timed(self) -> float:
        began = self.clock()
        self._step()
        took = self.clock() - began
        self._spent += took
        return took

    def _in_time(self, width: int) -> bool:
        last = max(self.seconds)
        expected = self.seconds[last] * width / last * (TIMED + 1)
        return self._spent + expected <= BUDGET_SECONDS


def _line(seconds: Mapping[int, float], width: int) -> PassCost:
    """Through one render and `width` of them."""
    alone, together = seconds[1], seconds[width]
    row = max(0.0, (together - alone) / (width - 1)) if width > 1 else alone
    return PassCost(max(0.0, alone - row), min(row, alone))
