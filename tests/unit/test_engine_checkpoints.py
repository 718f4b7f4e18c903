"""Checkpoints on demand: how often they are taken, and that no pass is lost where one was due."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.decoder import DecodeState, Plan
from engine.decoders.paced import PacedDecoder
from engine.engine import DecoderEngine
from engine.render import Checkpoint, Pixels, RenderSpec, UpdateKind
from tests.stages.engine_kit import PATIENCE_SECONDS, Clock, Heard, spec

PASSES = 8


class Rare(PacedDecoder):
    """Passes of 20 ms on a clock; `seconds` of them may be lost. `taken`: every checkpoint."""

    def __init__(self, clock: Clock, seconds: float = 0.05) -> None:
        super().__init__(20, 0, sleep=clock.sleep)
        self._lost_seconds = seconds
        self.taken: list[str] = []

    def plan(self, spec: RenderSpec) -> Plan:
        return replace(super().plan(spec), checkpoint_seconds=self._lost_seconds)

    def checkpoint(self, render: DecodeState) -> Checkpoint:
        self.taken.append(f"{render.spec.render_id}{render.pass_no}")
        return super().checkpoint(render)


def saved(heard: Heard, render_id: str = "a") -> list[int]:
    """Pass numbers of the updates with a checkpoint, which are those that are in it."""
    found = [u for u in heard.updates if u.render_id == render_id and u.checkpoint is not None]
    assert all(Checkpoint.from_bytes(u.checkpoint or b"").pass_no == u.pass_no for u in found)
    return [u.pass_no for u in found]


def undisturbed(passes: int = PASSES) -> Pixels:
    heard = Heard()
    engine = DecoderEngine(PacedDecoder(0, 0), 1, heard)
    engine.add(spec("a", passes))
    engine.drain()
    engine.stop()
    pixels = heard.last("a").pixels
    assert pixels is not None
    return pixels


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_checkpoint_is_taken_when_so_much_pass_time_has_gone_by(
    heard: Heard, clock: Clock
) -> None:
    decoder = Rare(clock)
    engine = DecoderEngine(decoder, 2, heard, clock)
    engine.add(spec("a", PASSES))
    engine.step()
    engine.add(spec("b", 2))
    assert engine.drain()
    engine.stop()
    assert heard.of("a") == f"accepted {'pass ' * PASSES}done"
    assert saved(heard) == [3, 6, 8], "after 60 ms each, and after the last pass"
    assert decoder.taken == ["a3", "b2", "a6", "a8"]
    assert [u.decoded for u in heard.updates if u.render_id == "b"] == [False, False, True, True]


def test_a_render_goes_on_from_a_rare_checkpoint(heard: Heard, clock: Clock) -> None:
    first = DecoderEngine(Rare(clock), 1, heard, clock)
    first.add(spec("a", PASSES))
    for _ in range(5):
        first.step()
    (checkpoint,) = [u.checkpoint for u in heard.updates if u.checkpoint]
    first.abort("a")
    first.stop()
    second = DecoderEngine(Rare(clock), 1, heard, clock)
    second.add(spec("b", PASSES, checkpoint))
    assert second.drain()
    second.stop()
    assert [u.pass_no for u in heard.updates if u.render_id == "b"] == [3, 4, 5, 6, 7, 8, 8]
    np.testing.assert_array_equal(heard.last("b").pixels, undisturbed())


def test_who_leaves_takes_every_pass_along(heard: Heard, clock: Clock) -> None:
    engine = DecoderEngine(Rare(clock), 1, heard, clock)
    engine.add(spec("a", PASSES))
    for _ in range(4):
        engine.step()
    engine.leave("a")
    engine.step()
    engine.stop()
    assert heard.of("a") == "accepted pass pass pass pass left"
    assert saved(heard) == [3, 5]


def test_who_is_cut_off_by_stop_takes_every_pass_along(heard: Heard, clock: Clock) -> None:
    """However its last pass went: none was under way, or one that ends meanwhile."""

    class Gated(Rare):
        may_pass = threading.Semaphore(2)
        in_third = threading.Event()

        def step(self, batch: Sequence[DecodeState]) -> None:
            if batch[0].pass_no == 2:
                self.in_third.set()
            assert self.may_pass.acquire(timeout=PATIENCE_SECONDS)
            super().step(batch)

    by_hand = DecoderEngine(Rare(clock), 1, heard, clock)
    by_hand.add(spec("hand", PASSES))
    by_hand.step()
    by_hand.step()
    by_hand.stop()
    assert (heard.of("hand"), saved(heard, "hand")) == ("accepted pass pass left", [2])

    decoder = Gated(clock, 1.0)
    threaded = DecoderEngine(decoder, 1, heard, clock)
    threaded.start()
    threaded.add(spec("a", PASSES))
    assert decoder.in_third.wait(PATIENCE_SECONDS)
    stopping = threading.Thread(target=threaded.stop)
    stopping.start()
    while threaded.add(spec("late")):  # until it is on its way
        threaded.abort("late")
    decoder.may_pass.release()
    stopping.join(PATIENCE_SECONDS)
    assert (heard.of("a"), saved(heard)) == ("accepted pass pass left", [3])


def test_a_render_that_is_tried_alone_saves_every_pass(heard: Heard, clock: Clock) -> None:
    engine = DecoderEngine(Rare(clock), 1, heard, clock)
    engine.add(replace(spec("a", 4), alone=True))
    assert engine.drain()
    engine.stop()
    assert saved(heard) == [1, 2, 3, 4]


class PoisonedLate(Rare):
    """Breaks whenever `bad` is to do its fifth pass, with half of the rows done. `steps`: tries."""

    steps = 0

    def step(self, batch: Sequence[DecodeState]) -> None:
        self.steps += 1
        if any(r.spec.render_id == "bad" and r.pass_no == 4 for r in batch):
            super().step(batch[: len(batch) // 2])
            raise RuntimeError("poison")
        super().step(batch)


def test_a_raising_pass_sets_back_to_the_last_checkpoint_and_fails_one_render(
    heard: Heard, clock: Clock
) -> None:
    decoder = PoisonedLate(clock)
    engine = DecoderEngine(decoder, 3, heard, clock)
    for render_id in ("a", "bad", "b"):
        engine.add(spec(render_id, PASSES))
    assert engine.drain()
    engine.stop()
    assert heard.last("bad").error == "RuntimeError: poison"
    assert saved(heard, "bad") == [3, 4], "from there it is tried again elsewhere"
    for render_id in ("a", "b"):
        numbers = [u.pass_no for u in heard.updates if u.render_id == render_id]
        assert numbers == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8], "one pass is drawn again"
        np.testing.assert_array_equal(heard.last(render_id).pixels, undisturbed())
    assert decoder.steps == 4 + (1 + 3) + (1 + 3) + 3, "the second time each is tried from pass 4"


def test_the_last_pass_is_a_checkpoint_however_short(heard: Heard, clock: Clock) -> None:
    engine = DecoderEngine(Rare(clock, 1e9), 1, heard, clock)
    engine.add(spec("a", 2))
    engine.drain()
    final = heard.updates[-2]
    assert (final.kind, final.decoded, saved(heard)) == (UpdateKind.PASS, True, [2])
    engine.stop()
    other = DecoderEngine(Rare(clock, 1e9), 1, heard, clock)
    other.add(spec("b", 2, final.checkpoint))
    other.drain()
    other.stop()
    assert heard.of("b") == "accepted done"
