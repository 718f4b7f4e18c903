"""What does not fit, what is broken, and what is let go of: the engine around a decoder that says
so by OutOfMemory, RendersBroken and drop."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields

import numpy as np
import pytest

from engine.decoder import DecodeState, OutOfMemory, RenderRejected, RendersBroken
from engine.decoders.paced import PacedDecoder, PacedState
from engine.engine import DecoderEngine
from engine.render import Checkpoint, Pixels, RenderSpec, UpdateKind
from engine.scheduler import GROW_AFTER
from tests.stages.engine_kit import PATIENCE_SECONDS, Heard, spec


class Activations:
    """What a pass makes."""


class Small(PacedDecoder):
    """Passes of more than `fits` renders find no room, nor does any for a render called `huge`.
    What a pass makes must be gone before the next one."""

    def __init__(self, fits: int) -> None:
        super().__init__(0, 0)
        self.fits = fits
        self.widths: list[int] = []
        self.drawn: Counter[tuple[str, int]] = Counter()
        self._made: weakref.ref[Activations] | None = None

    def step(self, batch: Sequence[DecodeState]) -> None:
        assert self._made is None or self._made() is None, "the last try is still in memory"
        activations = Activations()
        self._made = weakref.ref(activations)
        self.widths.append(len(batch))
        if len(batch) > self.fits or any(r.spec.render_id == "huge" for r in batch):
            raise OutOfMemory("128x128 fits")
        super().step(batch)
        self.drawn.update((r.spec.render_id, r.pass_no) for r in batch)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def without_gc() -> Iterator[None]:
    """What is dropped must go by itself. Logged tracebacks would keep it: none are logged."""
    logging.disable(logging.CRITICAL)
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logging.disable(logging.NOTSET)


def alone(passes: int) -> Pixels:
    heard = Heard()
    engine = DecoderEngine(PacedDecoder(0, 0), 1, heard)
    engine.add(spec("a", passes))
    engine.drain()
    engine.stop()
    pixels = heard.last("a").pixels
    assert pixels is not None
    return pixels


def test_half_go_on_and_the_others_leave_as_they_are(heard: Heard, without_gc: None) -> None:
    decoder = Small(fits=3)
    engine = DecoderEngine(decoder, 8, heard)
    for name in "abc":
        engine.add(spec(name, 6))
    engine.step()
    for name in "defg":
        engine.add(spec(name, 6))
    engine.step()
    assert decoder.widths == [3, 7, 1, 1, 1, 1], "is one of the newcomers too large?"
    assert {name: heard.of(name) for name in "abcg"} == {
        "a": "accepted pass",
        "b": "accepted pass",
        "c": "accepted pass",
        "g": "accepted left",
    }
    assert engine.free_slots == 0, "three fit"
    engine.step()
    assert decoder.widths[-1] == 3
    assert engine.drain()
    engine.stop()
    for name in "abc":
        np.testing.assert_array_equal(heard.last(name).pixels, alone(6))
    assert {heard.last(name).pass_no for name in "defg"} == {1}, "which it takes along"
    assert all(heard.last(name).checkpoint is not None for name in "defg")


def test_who_leaves_for_want_of_memory_goes_on_elsewhere(heard: Heard) -> None:
    decoder = Small(fits=4)
    engine = DecoderEngine(decoder, 4, heard)
    for name in "abcd":
        engine.add(spec(name, 6))
    engine.step()
    engine.step()
    decoder.fits = 3
    engine.step()
    assert [heard.of(n).split()[-1] for n in "abcd"] == ["pass", "pass", "left", "left"]
    left = heard.last("d")
    assert left.pass_no == 2
    elsewhere = DecoderEngine(PacedDecoder(0, 0), 1, heard)
    elsewhere.add(spec("e", 6, left.checkpoint))
    elsewhere.drain()
    elsewhere.stop()
    engine.stop()
    assert [u.pass_no for u in heard.updates if u.render_id == "e"] == [2, 3, 4, 5, 6, 6]
    np.testing.assert_array_equal(heard.last("e").pixels, alone(6))


def test_the_width_grows_back_slowly(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    decoder = Small(fits=1)
    engine = DecoderEngine(decoder, 2, heard)

    def passes_until_there_is_a_slot() -> int:
        passes = 0
        while not engine.free_slots:
            engine.step()
            passes += 1
        return passes

    engine.add(spec("a", 250))
    engine.step()
    engine.add(spec("b", 250))
    engine.step()
    assert (decoder.widths, heard.of("b")) == ([1, 2, 1], "accepted left")
    assert passes_until_there_is_a_slot() == GROW_AFTER - 1, "the pass of b alone was the first"
    engine.add(spec("c", 250))
    engine.step()
    assert (decoder.widths[-2:], heard.of("c")) == ([2, 1], "accepted left")
    engine.abort("a")
    engine.add(spec("d", 250))
    decoder.fits = 2
    assert passes_until_there_is_a_slot() == 2 * GROW_AFTER - 1, "it did not fit again"
    engine.add(spec("e", 250))
    engine.step()
    assert decoder.widths[-1] == 2
    engine.stop()
    assert "no memory for a pass of 2 renders: 1 at a time from now on, 1 leave" in caplog.text
    assert "2 renders at a time from now on" in caplog.text


def test_one_that_does_not_fit_even_alone_is_rejected_with_what_would(heard: Heard) -> None:
    engine = DecoderEngine(Small(fits=8), 4, heard)
    engine.add(spec("huge"))
    engine.add(spec("a"))
    engine.step()
    assert heard.of("a") == "accepted pass"
    assert engine.free_slots == 3, "no slot was lost by it"
    assert engine.drain()
    engine.stop()
    assert heard.of("a") == "accepted pass pass pass done"
    last = heard.last("huge")
    assert (last.kind, last.rejected) == (UpdateKind.FAILED, True)
    assert last.error == ("there is not enough memory for this render, even alone: 128x128 fits")


class NoRoomFor(PacedDecoder):
    """One verb finds no room for the render called `bad` the first `times` times."""

    def __init__(self, verb: str, times: int) -> None:
        super().__init__(0, 0)
        self._verb, self._times = verb, times

    def _fit(self, verb: str, render_id: str) -> None:
        if verb == self._verb and render_id == "bad" and self._times:
            self._times -= 1
            raise OutOfMemory("64x64 fits")

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> PacedState:
        self._fit("begin", spec.render_id)
        return super().begin(spec, checkpoint)

    def finish(self, render: DecodeState) -> Pixels:
        self._fit("finish", render.spec.render_id)
        return super().finish(render)


@pytest.mark.parametrize(
    ("verb", "times", "beside", "said"),
    [
        ("begin", 1, True, "accepted pass pass pass done"),
        ("begin", 2, True, "accepted left"),
        ("begin", 1, False, "accepted pass pass pass done"),
        ("begin", 2, False, "accepted failed"),
        ("finish", 1, True, "accepted pass pass pass done"),
        ("finish", 2, True, "accepted pass pass pass failed"),
    ],
)
def test_beginning_and_pixels_need_room_too(
    heard: Heard, verb: str, times: int, beside: bool, said: str
) -> None:
    engine = DecoderEngine(NoRoomFor(verb, times), 4, heard)
    if beside:
        engine.add(spec("a", 9))
        engine.step()
    engine.add(spec("bad"))
    assert engine.drain()
    engine.stop()
    assert heard.of("bad") == said
    if beside:
        assert heard.of("a") == f"accepted {'pass ' * 9}done"
    if said.endswith("failed"):
        assert heard.last("bad").rejected
        assert "64x64 fits" in (heard.last("bad").error or "")


def test_a_broken_render_costs_its_neighbours_nothing(heard: Heard) -> None:
    class Breaks(Small):
        def step(self, batch: Sequence[DecodeState]) -> None:
            super().step(batch)
            if broken := [r for r in batch if r.spec.render_id == "bad" and r.pass_no == 3]:
                raise RendersBroken(broken, "its latents are NaN")

    decoder = Breaks(fits=3)
    engine = DecoderEngine(decoder, 3, heard)
    for name in ("a", "bad", "b"):
        engine.add(spec(name, 6))
    assert engine.drain()
    engine.stop()
    last = heard.last("bad")
    assert (last.kind, last.rejected) == (UpdateKind.FAILED, False)
    assert last.error == "RendersBroken: its latents are NaN"
    assert heard.of("bad") == "accepted pass pass failed", "its broken pass is no checkpoint"
    assert decoder.widths == [3, 3, 3, 2, 2, 2]
    for name in "ab":
        assert heard.of(name) == f"accepted {'pass ' * 6}done"
        np.testing.assert_array_equal(heard.last(name).pixels, alone(6))


class State(PacedState):
    """One that can be watched."""


class Watched(PacedDecoder):
    """`alive`: states of renders that are not gone. `dropped`: by which threads."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.alive: list[str] = []
        self.dropped: dict[str, set[str]] = {}
        self.in_finish, self.finish_may_end = threading.Event(), threading.Event()
        self.finish_may_end.set()
        self.fails: str | None = None

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> PacedState:
        plain = super().begin(spec, checkpoint)
        state = State(**{field.name: getattr(plain, field.name) for field in fields(plain)})
        self.alive.append(spec.render_id)
        weakref.finalize(state, self.alive.remove, spec.render_id)
        return state

    def step(self, batch: Sequence[DecodeState]) -> None:
        if any(render.spec.render_id == self.fails for render in batch):
            raise RenderRejected("it cannot be drawn")
        super().step(batch)

    def finish(self, render: DecodeState) -> Pixels:
        self.in_finish.set()
        assert self.finish_may_end.wait(PATIENCE_SECONDS)
        return super().finish(render)

    def drop(self, render: DecodeState) -> None:
        assert isinstance(render, State)
        self.dropped.setdefault(render.spec.render_id, set()).add(threading.current_thread().name)


def test_no_state_outlives_its_render(heard: Heard, without_gc: None) -> None:
    decoder = Watched()
    decoder.finish_may_end.clear()
    engine = DecoderEngine(decoder, 8, heard)
    for name in ("a", "aborted", "left", "bad", "done"):
        engine.add(spec(name, 1 if name == "done" else 5))
    engine.step()
    assert sorted(decoder.alive) == ["a", "aborted", "bad", "done", "left"]
    decoder.finish_may_end.set()
    heard.wait_for(UpdateKind.DONE, "done")
    engine.abort("aborted")
    engine.leave("left")
    engine.step()
    assert sorted(decoder.alive) == ["a", "bad"]
    decoder.fails = "bad"
    engine.step()
    assert decoder.alive == ["a"]
    engine.abort("a")
    assert not engine.step(), "the next boundary of an engine that has nothing to do"
    assert decoder.alive == []
    engine.add(spec("last"))
    engine.step()
    engine.stop()
    assert decoder.alive == []
    assert decoder.dropped.keys() == {"a", "aborted", "left", "bad", "done", "last"}


def test_states_are_dropped_on_the_engine_s_thread_and_not_under_a_finish(
    heard: Heard, without_gc: None
) -> None:
    decoder = Watched()
    decoder.finish_may_end.clear()
    engine = DecoderEngine(decoder, 2, heard)
    engine.start()
    engine.add(spec("a", 1))
    assert decoder.in_finish.wait(PATIENCE_SECONDS)
    engine.abort("a")
    engine.add(spec("b", 2))
    engine.add(spec("c", 200))
    heard.wait_for(UpdateKind.PASS, "c")
    assert "a" in decoder.alive, "its pixels are being made"
    decoder.finish_may_end.set()
    heard.wait_for(UpdateKind.DONE, "b")
    heard.wait_for(UpdateKind.DONE, "c")
    engine.drain()
    engine.stop()
    assert decoder.alive == []
    assert decoder.dropped == {name: {"decoder-engine"} for name in "abc"}


def test_a_drop_that_raises_hurts_no_other(heard: Heard) -> None:
    class Clings(PacedDecoder):
        def drop(self, render: DecodeState) -> None:
            raise RuntimeError("it does not let go")

    engine = DecoderEngine(Clings(0, 0), 1, heard)
    for name in "ab":
        engine.add(spec(name))
        while engine.step():
            pass
        heard.wait_for(UpdateKind.DONE, name)
    engine.stop()
    assert heard.of("a") == heard.of("b") == "accepted pass pass pass done"
