"""Measuring a decoder whose time and memory are counted instead of spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from engine.cost import PassCost
from engine.decoder import DecodeState, OutOfMemory, RendersBroken
from engine.decoders.paced import PacedDecoder, PacedState
from engine.footprint import DoesNotFit
from engine.measuring import (
    BUDGET_SECONDS,
    CannotDraw,
    Peak,
    StartReport,
    WeightsLoad,
    measured,
    start_report,
)
from engine.render import Checkpoint, Pixels, RenderSpec
from tests.stages.engine_kit import Clock, spec

WEIGHTS, RENDER, ROW, DECODE = 1000, 10, 100, 50


class Counted(PacedDecoder):
    """A pass takes `fixed` + `row` seconds a render, and ROW bytes; more than `most` bytes are not
    there. Its own Memory."""

    def __init__(self, fixed: float, row: float, usable: int, most: int | None = None) -> None:
        super().__init__(0, 0)
        self.clock = Clock()
        self.fixed, self.row, self._usable, self._most = fixed, row, usable, most or usable
        self.load = WeightsLoad(2 * 10**9, 3.0)
        self.memory = self
        self.measure = True
        self.fixed_width: int | None = None
        self.trial_pictures = 0.0
        self.alive: list[DecodeState] = []
        self.widths: list[int] = []
        self.adopted: tuple[int, PassCost] = (0, PassCost(0, 0))
        self._peak = 0

    def held(self) -> int:
        """See Memory."""
        return WEIGHTS + RENDER * len(self.alive)

    def usable(self) -> int:
        """See Memory."""
        return self._usable

    @contextmanager
    def peak(self) -> Iterator[Peak]:
        """See Memory."""
        found, self._peak = Peak(), self.held()
        yield found
        found.held = self._peak

    def _take(self, count: int) -> None:
        if self.held() + count > self._most:
            raise OutOfMemory("less")
        self._peak = max(self._peak, self.held() + count)

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> PacedState:
        self.alive.append(state := super().begin(spec, checkpoint))
        return state

    def step(self, batch: Sequence[DecodeState]) -> None:
        self._take(ROW * min(len(batch), self.adopted[0]))
        self.widths.append(len(batch))
        self.clock.sleep(self.fixed + self.row * len(batch))
        super().step(batch)

    def drop(self, render: DecodeState) -> None:
        self.alive.remove(render)

    def trial(self, number: int) -> RenderSpec:
        """See Measurable."""
        return spec(f"trial{number}", passes=8)

    def adopt(self, width: int, cost: PassCost) -> None:
        """See Measurable."""
        self.adopted = width, cost

    def pixels_now(self, render: DecodeState) -> Pixels:
        """See Measurable."""
        self._take(DECODE)
        return self.preview(render)


def measure(decoder: Counted, slots: int) -> StartReport:
    report = measured(decoder, slots, decoder.clock)
    assert not decoder.alive, "trials leave nothing behind"
    return report


def test_passes_are_timed_by_width_and_the_cost_is_adopted() -> None:
    decoder = Counted(fixed=0.05, row=0.01, usable=10_000)
    report = measure(decoder, 6)
    wanted = {width: 0.05 + 0.01 * width for width in (1, 2, 4, 6)}
    assert report.seconds == pytest.approx(wanted)
    assert report.width == decoder.adopted[0] == 6
    cost = decoder.adopted[1]
    assert (cost.fixed_seconds, cost.row_seconds) == pytest.approx((0.05, 0.01))
    assert report.pass_seconds == pytest.approx(0.11 / 6)
    assert sorted(set(decoder.widths)) == [1, 2, 4, 6]


def test_memory_is_what_passes_renders_and_the_decode_take() -> None:
    found = measure(Counted(0.05, 0.01, usable=10_000), 4).footprint
    assert (found.usable, found.weights, found.render, found.decode) == (10_000, 1000, 10, 50)
    assert found.passes == {1: 100, 2: 200, 4: 400}


def test_more_slots_than_fit_are_refused_with_the_sum() -> None:
    with pytest.raises(DoesNotFit, match=r"slots: 8 do not fit: .* 5 would fit"):
        measure(Counted(0.05, 0.01, usable=1000 + 5 * 10 + 100 + 50), 8)


def test_a_forward_that_runs_out_of_memory_is_not_chosen() -> None:
    decoder = Counted(0.05, 0.01, usable=10_000, most=1000 + 8 * 10 + 2 * 100)
    assert measure(decoder, 8).width == 2


def test_weights_that_leave_no_room_for_one_render_are_refused() -> None:
    with pytest.raises(DoesNotFit, match="not even one render fits beside weights"):
        measure(Counted(0.05, 0.01, usable=10_000, most=1050), 2)


def test_a_fixed_width_is_kept_and_refused_where_it_does_not_fit() -> None:
    decoder = Counted(fixed=0.0, row=0.01, usable=10_000)
    decoder.fixed_width = 2
    assert measure(decoder, 8).width == 2
    tight = Counted(fixed=0.0, row=0.01, usable=1000 + 8 * 10 + 350)
    tight.fixed_width = 4
    with pytest.raises(DoesNotFit, match="a forward of 4 with 400 bytes"):
        measure(tight, 8)


def test_slow_passes_are_measured_as_far_as_the_budget_goes() -> None:
    decoder = Counted(fixed=0.0, row=BUDGET_SECONDS / 10, usable=10_000)
    report = measure(decoder, 64)
    assert report.seconds.keys() == {1, 2}
    assert report.width == 2


def test_made_up_prompts_may_break_the_numbers() -> None:
    class Broken(Counted):
        def step(self, batch: Sequence[DecodeState]) -> None:
            super().step(batch)
            raise RendersBroken(batch, "NaN")

    assert measure(Broken(0.05, 0.01, usable=10_000), 2).width == 2


def test_a_decoder_that_cannot_draw_says_how_to_start_without() -> None:
    class Odd(Counted):
        def step(self, batch: Sequence[DecodeState]) -> None:
            raise IndexError("513 is out of bounds")

    odd = Odd(0.05, 0.01, usable=10_000)
    with pytest.raises(CannotDraw, match=r"IndexError.*513.*measure: false"):
        start_report(odd, 2)
    odd.measure = False
    assert start_report(odd, 2) is None
    assert start_report(PacedDecoder(0, 0), 2) is None


def test_passes_that_draw_a_share_are_priced_by_the_picture() -> None:
    decoder = Counted(fixed=0.0, row=0.01, usable=10_000)
    assert measure(decoder, 1).pass_seconds_of(16) == pytest.approx(0.01)
    decoder.trial_pictures = 1 / 576
    assert measure(decoder, 1).pass_seconds_of(16) == pytest.approx(0.01 * 576 / 16)


def test_the_log_says_how_long_a_gigabyte_took() -> None:
    report = measure(Counted(0.05, 0.01, usable=10_000), 1)
    assert report.load.seconds_per_gb == 1.5
    assert "loaded in 3.0 s, 1.50 s per GB" in report.sentences(1)
    assert report.numbers()["load_seconds_per_gb"] == 1.5
