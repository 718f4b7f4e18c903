"""Renders that an engine holds until a slot is free: no slot stays empty for a pass while one is
held, and one that is held runs nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decoder import DecodeState, OutOfMemory
from engine.decoders.paced import PacedDecoder
from engine.engine import DecoderEngine
from engine.render import UpdateKind
from engine.streams import RenderStreams
from tests.stages.engine_kit import PATIENCE_SECONDS, Heard, spec


class Counting(PacedDecoder):
    """Passes of more than `fits` renders find no room. `names`: of the renders of each pass."""

    def __init__(self, fits: int = 99) -> None:
        super().__init__(0, 0)
        self.fits = fits
        self.names: list[str] = []
        self.in_pass, self.pass_may_end = threading.Event(), threading.Event()
        self.pass_may_end.set()

    def step(self, batch: Sequence[DecodeState]) -> None:
        self.in_pass.set()
        assert self.pass_may_end.wait(PATIENCE_SECONDS)
        if len(batch) > self.fits:
            raise OutOfMemory("128x128 fits")
        super().step(batch)
        self.names.append("".join(render.spec.render_id for render in batch))


@pytest.fixture
def heard() -> Heard:
    return Heard()


def test_a_held_render_joins_at_the_boundary_at_which_another_leaves(heard: Heard) -> None:
    decoder = Counting()
    engine = DecoderEngine(decoder, 2, heard)
    for name, passes in (("a", 2), ("b", 3), ("c", 3), ("d", 1), ("e", 1)):
        assert engine.add(spec(name, passes), hold=True)
    assert heard.of("c") == "", "it is told nothing yet"
    assert (engine.running, engine.free_slots) == (2, 0)
    while engine.step():
        pass
    assert decoder.names == ["ab", "ab", "bc", "cd", "ce"], "no slot was empty for a pass"
    engine.stop()


def test_calls_that_wait_leave_no_slot_empty_for_a_pass() -> None:
    async def drawn() -> list[str]:
        decoder = Counting()
        decoder.pass_may_end.clear()
        streams = RenderStreams(decoder, 2, full_wait_seconds=PATIENCE_SECONDS)

        async def kinds(name: str, passes: int) -> list[UpdateKind]:
            return [update.kind async for update in streams.render(spec(name, passes))]

        first = asyncio.create_task(kinds("a", 4))
        await asyncio.to_thread(decoder.in_pass.wait, PATIENCE_SECONDS)
        calls = [asyncio.create_task(kinds(name, 4)) for name in "bcdefgh"]
        await asyncio.sleep(0)  # each has asked
        decoder.pass_may_end.set()
        assert {ended[-1] for ended in await asyncio.gather(first, *calls)} == {UpdateKind.DONE}
        await streams.close()
        return decoder.names

    names = asyncio.run(drawn())
    assert [len(together) for together in names] == [1, *[2] * 15, 1], "of 32 passes"


def test_one_that_comes_later_waits_behind_those_that_are_held(heard: Heard) -> None:
    decoder = Counting()
    decoder.pass_may_end.clear()
    engine = DecoderEngine(decoder, 1, heard)
    engine.start()
    engine.add(spec("a", 1))
    assert decoder.in_pass.wait(PATIENCE_SECONDS)
    for name in "bc":
        engine.add(spec(name, 1), hold=True)
    assert (heard.of("b"), heard.of("c")) == ("accepted", ""), "one slot is promised once"
    assert not engine.add(spec("d", 1))
    decoder.pass_may_end.set()
    heard.wait_for(UpdateKind.DONE, "c")
    engine.stop()
    assert decoder.names == ["a", "b", "c"]


def test_what_yields_is_held_behind_all_others(heard: Heard) -> None:
    decoder = Counting()
    engine = DecoderEngine(decoder, 1, heard)
    engine.add(spec("a", 1))
    for name, yields in (("b", True), ("c", False), ("d", True), ("e", False)):
        engine.add(replace(spec(name, 1), yields=yields), hold=True)
    while engine.step():
        pass
    assert decoder.names == ["a", "c", "e", "b", "d"]
    engine.stop()


def test_a_held_render_is_promised_the_slot_while_the_last_pass_is_under_way(heard: Heard) -> None:
    """It is not told `full` then, however long that pass takes."""
    decoder = Counting()
    engine = DecoderEngine(decoder, 1, heard)
    engine.add(spec("a", 2))
    engine.add(spec("b", 2), hold=True)
    engine.step()
    assert heard.of("b") == ""
    decoder.in_pass.clear()
    decoder.pass_may_end.clear()
    engine.start()
    assert decoder.in_pass.wait(PATIENCE_SECONDS)
    assert heard.of("b") == "accepted"
    engine.let_go("b")
    decoder.pass_may_end.set()
    heard.wait_for(UpdateKind.DONE, "b")
    engine.stop()


@pytest.mark.parametrize("freed", ["abort", "leave"])
def test_a_held_render_has_the_slot_that_is_cleared(heard: Heard, freed: str) -> None:
    decoder = Counting()
    engine = DecoderEngine(decoder, 1, heard)
    engine.add(spec("a", 9))
    engine.add(spec("b", 1), hold=True)
    engine.step()
    getattr(engine, freed)("a")
    while engine.step():
        pass
    assert "".join(decoder.names) == ("ab" if freed == "abort" else "aab")
    engine.stop()


def test_a_held_render_that_is_aborted_or_let_go_takes_no_slot(heard: Heard) -> None:
    decoder = Counting()
    engine = DecoderEngine(decoder, 1, heard)
    engine.add(spec("a", 1))
    for name in "bcd":
        engine.add(spec(name, 1), hold=True)
    with pytest.raises(ValueError, match="render b is in flight"):
        engine.add(spec("b"), hold=True)
    engine.abort("b")
    engine.let_go("c")
    engine.let_go("a")
    engine.let_go("unknown")
    while engine.step():
        pass
    assert decoder.names == ["a", "d"]
    assert (heard.of("b"), heard.of("c")) == ("", "full")
    engine.stop()


@pytest.mark.parametrize("how", ["hand_on", "stop", "drain"])
def test_an_engine_that_stops_gives_held_renders_back_at_once(heard: Heard, how: str) -> None:
    decoder = Counting()
    engine = DecoderEngine(decoder, 1, heard)
    engine.add(spec("a", 3))
    engine.add(spec("b", 3), hold=True)
    engine.step()
    if how == "hand_on":
        assert engine.hand_on(within_seconds=0.0) == (1, 0), "held ones are not among them"
    else:
        getattr(engine, how)()
    assert heard.of("b") == "full"
    assert not engine.add(spec("c"), hold=True)
    engine.stop()
    assert "b" not in "".join(decoder.names)


def test_an_engine_that_dies_fails_what_it_draws_and_gives_back_what_it_holds(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = Counting()
    decoder.pass_may_end.clear()

    def dies(_: object) -> None:
        raise RuntimeError("a bug")

    engine = DecoderEngine(decoder, 1, heard)
    monkeypatch.setattr(engine._scheduler, "settle", dies)
    engine.start()
    engine.add(spec("a", 3))
    engine.add(spec("b", 3), hold=True)
    decoder.pass_may_end.set()
    heard.wait_for(UpdateKind.FULL, "b")
    engine.stop()
    assert heard.of("a").endswith("failed"), "an attempt"
    assert heard.of("b") == "full", "and none"


def test_a_held_render_waits_until_memory_allows_it(heard: Heard) -> None:
    """One of two leaves for want of memory; those that are held take no place beside the other."""
    decoder = Counting(fits=1)
    engine = DecoderEngine(decoder, 2, heard)
    for name in "abcd":
        engine.add(spec(name, 3), hold=True)
    while engine.step():
        pass
    assert engine.drain()
    engine.stop()
    assert {len(together) for together in decoder.names} == {1}
    assert [heard.last(name).kind.value for name in "abcd"] == ["done", "left", "done", "done"]


EVENTS = st.tuples(st.sampled_from(["hold", "abort", "leave", "let_go", "step"]), st.integers(0, 9))


@given(st.lists(EVENTS, max_size=60))
def test_whatever_comes_and_goes_no_slot_is_empty_beside_one_that_is_held(
    events: list[tuple[str, int]],
) -> None:
    """Each render is accepted at most once, ends at most once, in the order in which they came."""
    decoder, heard = Counting(), Heard()
    engine = DecoderEngine(decoder, 2, heard)
    waiting: list[str] = []
    came = 0
    for event, number in events:
        if event == "hold":
            name = chr(0x4E00 + came)
            came += 1
            engine.add(spec(name, 1 + number % 4), hold=True)
            waiting.append(name)
        elif event == "step":
            if not engine.step():
                assert not [name for name in waiting if heard.of(name) == ""], "idle, and held"
            elif any(heard.of(name) == "" for name in waiting):
                assert len(decoder.names[-1]) == 2
        elif waiting:
            name = waiting[number % len(waiting)]
            getattr(engine, event)(name)
            if event == "abort":
                waiting.remove(name)
    while engine.step():
        pass
    assert engine.drain()
    engine.stop()
    accepted = [u.render_id for u in heard.updates if u.kind is UpdateKind.ACCEPTED]
    assert accepted == sorted(set(accepted))
    for name in waiting:
        kinds = heard.of(name).split()
        assert kinds == ["full"] or (kinds[0], kinds[-1]) in {
            ("accepted", "done"),
            ("accepted", "left"),
        }
