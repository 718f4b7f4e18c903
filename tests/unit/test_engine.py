"""The engine around any decoder: slots, threads, failures, draining. The decoder is the paced
family; what a test breaks, it breaks in one method of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from engine.decoder import DecodeState, Plan, RenderRejected
from engine.decoders.paced import PacedDecoder, PacedState
from engine.engine import DecoderEngine
from engine.render import Checkpoint, Pixels, RenderSpec, RenderUpdate, UpdateKind
from tests.stages.engine_kit import PATIENCE_SECONDS, Clock, Heard, spec


class Held(PacedDecoder):
    """A decoder whose passes and finishes wait until a test lets them go on."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.in_pass, self.pass_may_end = threading.Event(), threading.Event()
        self.in_finish, self.finish_may_end = threading.Event(), threading.Event()
        self.finish_thread = ""

    def step(self, batch: Sequence[DecodeState]) -> None:
        self.in_pass.set()
        assert self.pass_may_end.wait(PATIENCE_SECONDS)
        super().step(batch)

    def finish(self, render: DecodeState) -> Pixels:
        self.finish_thread = threading.current_thread().name
        self.in_finish.set()
        assert self.finish_may_end.wait(PATIENCE_SECONDS)
        return super().finish(render)


Build = Callable[..., DecoderEngine]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def build(heard: Heard) -> Iterator[Build]:
    """Builds engines, and stops them when the test is over."""
    engines: list[DecoderEngine] = []

    def make(decoder: PacedDecoder | None = None, slots: int = 2) -> DecoderEngine:
        engines.append(DecoderEngine(decoder or PacedDecoder(0, 0), slots, heard))
        return engines[-1]

    yield make
    for engine in engines:
        engine.stop()


def test_a_render_from_accepted_to_done(build: Build, heard: Heard) -> None:
    engine = build()
    assert engine.add(spec("a"))
    assert engine.step()
    assert engine.drain()
    assert heard.of("a") == "accepted pass pass pass done"
    assert [u.preview is not None for u in heard.updates] == [False, True, False, False, False]
    assert not engine.step()


def test_full_is_said_when_every_slot_is_promised(build: Build, heard: Heard) -> None:
    engine = build(slots=1)
    assert engine.add(spec("a"))
    assert not engine.add(spec("b"))
    assert heard.of("b") == "full"
    assert (engine.free_slots, engine.running) == (0, 1)


def test_the_slot_is_free_when_the_last_pass_is_heard(build: Build) -> None:
    """After the last pass is reported the next render can be dispatched at once."""
    heard = Heard()

    def emit(update: RenderUpdate) -> None:
        heard(update)
        if update.kind is UpdateKind.PASS and update.render_id == "a" and update.pass_no == 3:
            assert engine.add(spec("b"))

    engine = DecoderEngine(PacedDecoder(0, 0), 1, emit)
    engine.add(spec("a"))
    while engine.step():
        pass
    assert engine.drain()
    engine.stop()
    assert heard.of("b") == "accepted pass pass pass done"


def test_finishing_runs_beside_the_passes(build: Build, heard: Heard) -> None:
    decoder = Held()
    decoder.pass_may_end.set()
    engine = build(decoder, slots=1)
    engine.add(spec("a", passes=1))
    engine.step()
    assert decoder.in_finish.wait(PATIENCE_SECONDS)
    assert (engine.free_slots, engine.finishing) == (1, 1)
    engine.add(spec("b", passes=2))
    assert engine.step()
    assert (heard.of("a"), heard.of("b")) == ("accepted pass", "accepted pass")
    decoder.finish_may_end.set()
    assert engine.drain()
    assert heard.last("a").kind is heard.last("b").kind is UpdateKind.DONE
    assert decoder.finish_thread.startswith("decoder-finish")


def finished_checkpoint() -> bytes:
    decoder = PacedDecoder(0, 0)
    render = decoder.begin(spec("a"), None)
    for _ in range(3):
        decoder.step([render])
    return decoder.checkpoint(render).to_bytes()


def test_a_render_with_all_passes_done_takes_no_slot(build: Build, heard: Heard) -> None:
    engine = build(slots=1)
    engine.add(spec("busy"))
    assert engine.add(spec("a", checkpoint=finished_checkpoint()))
    assert engine.running == 1
    assert engine.drain()
    assert heard.of("a") == "accepted done"
    assert heard.last("a").pass_no == 3


def test_a_finished_checkpoint_with_unreadable_state_waits_for_a_slot(
    build: Build, heard: Heard
) -> None:
    engine = build(slots=1)
    engine.add(spec("busy", passes=2))
    broken = Checkpoint(PacedDecoder.model, 3, 5, b"?").to_bytes()
    assert engine.add(spec("a", checkpoint=broken))
    engine.step()
    assert heard.of("a") == "accepted"
    assert engine.drain()
    assert heard.of("a") == "accepted pass pass pass done"


def test_a_checkpoint_of_another_seed_or_plan_begins_again(build: Build, heard: Heard) -> None:
    engine = build()
    state = Checkpoint.from_bytes(finished_checkpoint()).state
    engine.add(spec("seed", checkpoint=Checkpoint(PacedDecoder.model, 3, 6, state).to_bytes()))
    engine.add(spec("plan", checkpoint=Checkpoint(PacedDecoder.model, 4, 5, state).to_bytes()))
    assert engine.drain()
    assert heard.of("seed") == heard.of("plan") == "accepted pass pass pass done"


def test_an_id_in_flight_cannot_be_added_again(build: Build) -> None:
    engine = build()
    engine.add(spec("a"))
    with pytest.raises(ValueError, match="render a is in flight"):
        engine.add(spec("a"))
    engine.abort("a")
    assert engine.add(spec("a")), "aborted is no longer in flight"


def test_abort_while_a_pass_runs_says_nothing_more(build: Build, heard: Heard) -> None:
    decoder = Held()
    engine = build(decoder, slots=1)
    engine.start()
    engine.add(spec("a"))
    assert decoder.in_pass.wait(PATIENCE_SECONDS)
    engine.abort("a")
    assert engine.free_slots == 1, "promised for the next pass boundary"
    decoder.finish_may_end.set()
    decoder.pass_may_end.set()
    assert engine.drain(PATIENCE_SECONDS)
    assert heard.of("a") == "accepted"


def test_abort_while_finishing_says_nothing_more(build: Build, heard: Heard) -> None:
    decoder = Held()
    decoder.pass_may_end.set()
    engine = build(decoder)
    engine.add(spec("a", passes=1))
    engine.step()
    assert decoder.in_finish.wait(PATIENCE_SECONDS)
    engine.abort("a")
    decoder.finish_may_end.set()
    engine.stop()
    assert heard.of("a") == "accepted pass"


def test_a_render_that_is_asked_to_leave_ends_its_pass_first(build: Build, heard: Heard) -> None:
    decoder = Held()
    decoder.finish_may_end.set()
    engine = build(decoder, 1)
    engine.start()
    engine.add(spec("a", 3))
    assert decoder.in_pass.wait(PATIENCE_SECONDS)
    assert engine.free_slots == 0
    engine.leave("a")
    assert engine.free_slots == 1, "promised for the next pass boundary"
    decoder.pass_may_end.set()
    heard.wait_for(UpdateKind.LEFT, "a")
    assert heard.of("a") == "accepted left"
    left = heard.last("a")
    assert (left.pass_no, left.preview is not None) == (1, True)
    engine.add(spec("b", 3, left.checkpoint))
    heard.wait_for(UpdateKind.PASS, "b")
    assert [u.pass_no for u in heard.updates if u.render_id == "b"][:2] == [1, 2]


def test_who_comes_during_a_last_pass_rides_with_the_next_one(build: Build, heard: Heard) -> None:
    decoder = Held()
    decoder.finish_may_end.set()
    engine = build(decoder, 1)
    engine.start()
    engine.add(spec("a", 1))
    assert decoder.in_pass.wait(PATIENCE_SECONDS)
    assert engine.add(spec("b"))
    assert not engine.add(spec("c")), "one slot is promised once"
    decoder.pass_may_end.set()
    assert engine.drain(PATIENCE_SECONDS)
    assert heard.of("a") == "accepted pass done"
    assert heard.of("b") == "accepted pass pass pass done"


def test_a_render_that_leaves_with_its_last_pass_stays_for_its_pixels(
    build: Build, heard: Heard
) -> None:
    engine = build(PacedDecoder(0, 0), 1)
    engine.add(spec("a", 1))
    engine.leave("a")
    engine.leave("an unknown one")
    engine.drain()
    assert heard.of("a") == "accepted pass done"


def test_aborting_an_unknown_render_is_nothing(build: Build, heard: Heard) -> None:
    build().abort("nobody")
    assert heard.updates == []


def test_draining_takes_nobody_in_and_lets_everyone_finish(build: Build, heard: Heard) -> None:
    engine = build()
    engine.start()
    for render_id in "ab":
        engine.add(spec(render_id, passes=20))
    assert engine.drain(PATIENCE_SECONDS)
    assert not engine.add(spec("late"))
    assert heard.of("late") == "full"
    assert {heard.last(r).kind for r in "ab"} == {UpdateKind.DONE}
    assert engine.free_slots == 0


def test_drain_says_when_its_time_ran_out(build: Build) -> None:
    decoder = Held()
    engine = build(decoder)
    engine.start()
    engine.add(spec("a"))
    assert not engine.drain(timeout_seconds=0.0)
    decoder.pass_may_end.set()
    decoder.finish_may_end.set()
    assert engine.drain(PATIENCE_SECONDS)


def test_stop_drops_what_is_in_flight_without_a_word(build: Build, heard: Heard) -> None:
    engine = build(PacedDecoder(20, 0))  # five seconds are left when it is stopped
    engine.start()
    engine.add(spec("a", passes=250))
    heard.wait_for(UpdateKind.PASS, "a")
    engine.stop()
    said = len(heard.updates)
    assert heard.last("a").kind is UpdateKind.PASS
    assert not engine.add(spec("b"))
    assert len(heard.updates) == said + 1


class CountsSteps(DecoderEngine):
    steps = 0

    def step(self) -> bool:
        self.steps += 1
        return super().step()


def test_idling_does_not_spin(heard: Heard) -> None:
    engine = CountsSteps(PacedDecoder(0, 0), 1, heard)
    engine.start()
    engine.add(spec("a", passes=2))
    heard.wait_for(UpdateKind.DONE, "a")
    threading.Event().wait(0.05)
    engine.stop()
    assert engine.steps <= 5, "an idle look, two passes, and an idle look or two"


def test_many_threads_add_and_abort(build: Build, heard: Heard) -> None:
    """Every render that was accepted and not aborted ends exactly once, and slots add up."""
    engine = build(slots=3)
    engine.start()
    aborted: set[str] = set()

    def client(name: int) -> None:
        for number in range(30):
            render_id = f"{name}-{number}"
            while not engine.add(spec(render_id, passes=2)):
                threading.Event().wait(0.001)
            if number % 5 == 0:
                engine.abort(render_id)
                aborted.add(render_id)

    threads = [threading.Thread(target=client, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.drain(PATIENCE_SECONDS)
    assert engine.running == 0
    done = [u.render_id for u in heard.updates if u.kind is UpdateKind.DONE]
    assert len(done) == len(set(done))
    assert set(done) | aborted == {f"{name}-{n}" for name in range(4) for n in range(30)}


def test_a_whole_render_tells_what_it_cost() -> None:
    clock, heard = Clock(), Heard()
    engine = DecoderEngine(PacedDecoder(20, 5, sleep=clock.sleep), 2, heard, clock)
    engine.add(spec("a", passes=2))
    engine.add(spec("b", passes=3))
    assert engine.drain()
    assert heard.last("a").cost_seconds == pytest.approx(2 * 0.030 / 2)
    assert heard.last("b").cost_seconds == pytest.approx(2 * 0.030 / 2 + 0.025)
    assert [u.cost_seconds for u in heard.updates if u.kind is not UpdateKind.DONE] == [0.0] * 7


def test_a_render_that_went_on_from_a_checkpoint_tells_no_cost() -> None:
    heard = Heard()
    first = DecoderEngine(PacedDecoder(0, 0), 1, heard)
    first.add(spec("a", passes=2))
    first.step()
    second = DecoderEngine(PacedDecoder(20, 5), 1, heard, Clock())
    second.add(spec("b", passes=2, checkpoint=heard.last("a").checkpoint))
    assert second.drain()
    assert heard.last("b").kind is UpdateKind.DONE
    assert heard.last("b").cost_seconds == 0.0
    first.stop()


def test_the_clock_measures_passes_and_idleness() -> None:
    clock, heard = Clock(), Heard()
    engine = DecoderEngine(PacedDecoder(20, 5, sleep=clock.sleep), 4, heard, clock)
    clock.sleep(7.0)
    assert engine.idle_seconds == pytest.approx(7.0)
    engine.add(spec("a", passes=1))
    engine.add(spec("b", passes=2))
    assert engine.idle_seconds == 0.0
    assert engine.drain()
    passes = [(u.pass_seconds, u.batch_width) for u in heard.updates if u.kind is UpdateKind.PASS]
    assert passes == [
        (pytest.approx(0.030), 2),
        (pytest.approx(0.030), 2),
        (pytest.approx(0.025), 1),
    ]
    clock.sleep(3.0)
    assert engine.idle_seconds == pytest.approx(3.0)
    assert engine.last_step_at == pytest.approx(107.055)
    engine.stop()


class TwoKeys(PacedDecoder):
    def plan(self, spec: RenderSpec) -> Plan:
        return Plan(spec.passes, batch_key=spec.render_id[0], pass_seconds=0.0)

    def step(self, batch: Sequence[DecodeState]) -> None:
        assert len({render.spec.render_id[0] for render in batch}) == 1
        super().step(batch)


def test_different_keys_take_turns(build: Build, heard: Heard) -> None:
    engine = build(TwoKeys(0, 0), slots=3)
    for render_id in ("x1", "x2", "y1"):
        engine.add(spec(render_id, passes=2))
    assert engine.drain()
    passes = [u.render_id for u in heard.updates if u.kind is UpdateKind.PASS]
    assert passes == ["x1", "x2", "y1", "x1", "x2", "y1"]


class Breaks(PacedDecoder):
    """One verb raises for the render called `bad`."""

    def __init__(self, verb: str, error: Exception | None = None) -> None:
        super().__init__(0, 0)
        self.verb, self.error = verb, error or RuntimeError("broken")

    def _break(self, verb: str, render_id: str) -> None:
        if verb == self.verb and render_id == "bad":
            raise self.error

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> PacedState:
        self._break("begin", spec.render_id)
        return super().begin(spec, checkpoint)

    def checkpoint(self, render: DecodeState) -> Checkpoint:
        self._break("checkpoint", render.spec.render_id)
        return super().checkpoint(render)

    def preview(self, render: DecodeState) -> Pixels:
        self._break("preview", render.spec.render_id)
        return super().preview(render)

    def finish(self, render: DecodeState) -> Pixels:
        self._break("finish", render.spec.render_id)
        return super().finish(render)


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("begin", "accepted failed"),
        ("checkpoint", "accepted failed"),
        ("finish", "accepted pass pass pass failed"),
        ("preview", "accepted pass pass pass done"),
    ],
)
def test_what_breaks_for_one_render_breaks_for_no_other(
    build: Build, heard: Heard, verb: str, said: str
) -> None:
    engine = build(Breaks(verb), slots=2)
    engine.add(spec("good"))
    engine.add(spec("bad"))
    assert engine.drain()
    assert heard.of("good") == "accepted pass pass pass done"
    assert heard.of("bad") == said
    if said.endswith("failed"):
        assert heard.last("bad").error == "RuntimeError: broken"
        assert not heard.last("bad").rejected
    assert engine.running == 0


def test_a_rejection_says_so_in_the_family_s_words(build: Build, heard: Heard) -> None:
    engine = build(Breaks("begin", RenderRejected("guidance is too strong")))
    engine.add(spec("bad"))
    assert engine.drain()
    last = heard.last("bad")
    assert (last.kind, last.error, last.rejected) == (
        UpdateKind.FAILED,
        "guidance is too strong",
        True,
    )


class FailsOnce(PacedDecoder):
    failed = False

    def step(self, batch: Sequence[DecodeState]) -> None:
        super().step(batch)
        if not self.failed and batch[0].pass_no == 2:
            self.failed = True
            raise MemoryError("out of memory")


def test_a_passing_failure_costs_nobody_anything(build: Build, heard: Heard) -> None:
    engine = build(FailsOnce(0, 0))
    engine.add(spec("a"))
    engine.add(spec("b"))
    assert engine.drain()
    assert heard.of("a") == heard.of("b") == "accepted pass pass pass done"
    width_by_pass = [u.batch_width for u in heard.updates if u.kind is UpdateKind.PASS]
    assert width_by_pass == [2, 2, 1, 1, 2, 2]
    tokens = [u.checkpoint for u in heard.updates if u.pass_no == 3 and u.checkpoint]
    assert tokens == [finished_checkpoint()] * 2


def test_a_listener_that_went_away_costs_only_its_render(heard: Heard) -> None:
    def emit(update: RenderUpdate) -> None:
        if update.render_id == "gone" and update.kind is UpdateKind.PASS:
            raise RuntimeError("the loop is closed")
        heard(update)

    engine = DecoderEngine(PacedDecoder(0, 0), 2, emit)
    engine.add(spec("gone"))
    engine.add(spec("a"))
    assert engine.drain()
    engine.stop()
    assert heard.of("gone") == "accepted"
    assert heard.of("a") == "accepted pass pass pass done"


class DiesInScheduling(DecoderEngine):
    def step(self) -> bool:
        if self.running:
            raise LookupError("a bug")
        return super().step()


def test_a_dead_engine_tells_everyone_and_takes_nobody(heard: Heard) -> None:
    engine = DiesInScheduling(PacedDecoder(0, 0), 2, heard)
    engine.start()
    engine.add(spec("a"))
    heard.wait_for(UpdateKind.FAILED, "a")
    assert heard.last("a").error == engine.error == "LookupError: a bug"
    assert not engine.add(spec("b"))
    engine.stop()


def alone(render_id: str, checkpoint: bytes | None = None) -> RenderSpec:
    return replace(spec(render_id, checkpoint=checkpoint), alone=True)


class Widths(PacedDecoder):
    """Who shared each pass."""

    def __init__(self) -> None:
        super().__init__(0, 0)
        self.passes: list[str] = []

    def step(self, batch: Sequence[DecodeState]) -> None:
        self.passes.append(" ".join(render.spec.render_id for render in batch))
        super().step(batch)


def test_a_render_that_is_tried_alone_shares_its_first_pass_with_none(
    build: Build, heard: Heard
) -> None:
    decoder = Widths()
    engine = build(decoder, 4)
    engine.add(spec("a"))
    engine.add(alone("b"))
    assert (heard.of("a"), heard.of("b")) == ("accepted", ""), "not before its turn"
    engine.step()
    assert (heard.of("a"), heard.of("b")) == ("accepted", "accepted pass")
    engine.step()
    assert decoder.passes == ["b", "a b"]


def test_pixels_are_made_alone_where_that_is_asked_for(build: Build, heard: Heard) -> None:
    decoder = Held()
    decoder.pass_may_end.set()
    engine = build(decoder, 4)
    engine.add(spec("a"))
    for _ in range(3):
        engine.step()
    final = heard.updates[-1].checkpoint
    assert decoder.in_finish.wait(PATIENCE_SECONDS)
    engine.add(alone("b", final))
    engine.start()
    engine.add(spec("c"))
    assert heard.of("b") == "", "pixels are in the making"
    decoder.finish_may_end.set()
    heard.wait_for(UpdateKind.DONE, "b")
    heard.wait_for(UpdateKind.DONE, "c")
    said = [(u.render_id, u.kind) for u in heard.updates if u.kind is not UpdateKind.ACCEPTED]
    assert said.index(("b", UpdateKind.DONE)) < said.index(("c", UpdateKind.PASS))


def test_a_pass_that_does_not_end_shows(build: Build) -> None:
    decoder = Held()
    engine = build(decoder, 1)
    assert engine.stuck_seconds == 0.0
    engine.start()
    engine.add(spec("a"))
    assert decoder.in_pass.wait(PATIENCE_SECONDS)
    engine.abort("a")
    assert engine.stuck_seconds > 0.0, "also when no caller waits for it any more"
    decoder.pass_may_end.set()
