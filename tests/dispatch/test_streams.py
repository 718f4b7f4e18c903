"""Streams of an engine's updates on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engine.decoder import DecodeState, Plan
from engine.decoders.paced import PacedDecoder
from engine.render import Conditioning, Pixels, RenderSpec, RenderUpdate, UpdateKind
from engine.streams import UPDATE_SECONDS, RenderStreams, is_throttled


def spec(name: str, passes: int) -> RenderSpec:
    prompt = Conditioning.from_numpy("", pooled=np.zeros(384, np.float16))
    return RenderSpec(name, prompt, seed=1, passes=passes)


async def test_calls_that_wait_for_a_slot_ask_once() -> None:
    streams = RenderStreams(PacedDecoder(20, 0), slots=1)
    asked, add = 0, streams.engine.add

    def counted(wanted: RenderSpec, *, hold: bool = False) -> bool:
        nonlocal asked
        asked += wanted.render_id == "second"
        return add(wanted, hold=hold)

    streams.engine.add = counted  # type: ignore[method-assign]

    async def kinds(wanted: RenderSpec) -> list[UpdateKind]:
        return [update.kind async for update in streams.render(wanted)]

    first = asyncio.create_task(kinds(spec("first", passes=16)))
    await asyncio.sleep(0)
    waiting = await asyncio.gather(*(kinds(spec(name, passes=2)) for name in ("second", "third")))
    assert {ended[-1] for ended in (await first, *waiting)} == {UpdateKind.DONE}
    assert asked == 1, "whatever boundaries pass meanwhile"
    await streams.close()


@pytest.mark.parametrize(
    ("kind", "pass_no", "preview", "since_seconds", "sent"),
    [
        (UpdateKind.PASS, 3, None, 0.0, False),
        (UpdateKind.PASS, 3, None, UPDATE_SECONDS, True),
        (UpdateKind.PASS, 8, None, 0.0, True),  # the final checkpoint
        (UpdateKind.PASS, 3, np.zeros((1, 1, 3), np.uint8), 0.0, True),
        (UpdateKind.ACCEPTED, 0, None, 0.0, True),
        (UpdateKind.FAILED, 3, None, 0.0, True),
    ],
)
def test_routine_passes_are_throttled(
    kind: UpdateKind, pass_no: int, preview: Pixels | None, since_seconds: float, sent: bool
) -> None:
    update = RenderUpdate("a", kind, pass_no, decoded=pass_no == 8, preview=preview)
    assert is_throttled(update, since_seconds, UPDATE_SECONDS) is not sent


async def test_a_fast_render_sends_its_last_pass_and_its_previews() -> None:
    streams = RenderStreams(PacedDecoder(1, 0), slots=1)
    wanted = replace(spec("fast", passes=16), preview_after=(5,))
    updates = [update async for update in streams.render(wanted)]
    passes = [update.pass_no for update in updates if update.kind is UpdateKind.PASS]
    assert {5, 16} <= set(passes) < set(range(1, 17))
    assert passes == sorted(passes)
    await streams.close()


async def test_a_render_asked_to_leave_sends_its_last_pass_however_fast() -> None:
    drawn: list[int] = []

    class Counted(PacedDecoder):
        def step(self, batch: Sequence[DecodeState]) -> None:
            super().step(batch)
            drawn.append(batch[0].pass_no)

    streams = RenderStreams(Counted(20, 0), slots=1)
    updates: list[RenderUpdate] = []
    async for update in streams.render(spec("leaving", passes=200)):
        updates.append(update)
        if update.kind is UpdateKind.PASS:
            streams.leave(["leaving", "an unknown one"])
    assert updates[-1].kind is UpdateKind.LEFT
    assert (updates[-1].pass_no, updates[-1].checkpoint is not None) == (drawn[-1], True)
    assert drawn == list(range(1, len(drawn) + 1))
    await streams.close()


async def test_a_closed_engine_ends_its_streams_without_a_last_update() -> None:
    streams = RenderStreams(PacedDecoder(20, 0), slots=1)
    kinds: list[UpdateKind] = []
    async for update in streams.render(spec("endless", passes=200)):
        kinds.append(update.kind)
        if len(kinds) == 2:
            closing = asyncio.create_task(streams.close())
    await closing
    assert set(kinds) == {UpdateKind.ACCEPTED, UpdateKind.PASS}
    assert [u.kind async for u in streams.render(spec("late", passes=2))] == [UpdateKind.FULL]


class Rare(PacedDecoder):
    """A checkpoint after every 250 ms of passes."""

    def plan(self, spec: RenderSpec) -> Plan:
        return replace(super().plan(spec), checkpoint_seconds=0.25)


async def test_a_rare_checkpoint_is_sent_however_soon_after_another_pass() -> None:
    streams = RenderStreams(Rare(100, 0), slots=1)
    updates = [update async for update in streams.render(spec("rare", passes=5))]
    passes = [u for u in updates if u.kind is UpdateKind.PASS]
    assert [u.pass_no for u in passes if u.checkpoint is not None] == [3, 5]
    await streams.close()


async def test_a_closed_engine_sends_the_passes_since_a_rare_checkpoint() -> None:
    streams = RenderStreams(Rare(20, 0), slots=1, update_seconds=0.15)
    updates: list[RenderUpdate] = []
    async for update in streams.render(spec("endless", passes=200)):
        updates.append(update)
        if update.kind is UpdateKind.PASS and len(updates) == 2:
            assert update.checkpoint is None
            closing = asyncio.create_task(streams.close())
    await closing
    last = updates[-1]
    assert (last.kind, last.checkpoint is not None) == (UpdateKind.LEFT, True)
    assert last.pass_no >= updates[-2].pass_no
