"""The decoder replica's async front, without a cluster."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, while it is imported
    from deployments.decoder import DecoderReplica
from engine.decoder import Render
from engine.render import Conditioning, Pixels, RenderSpec, RenderUpdate, UpdateKind
from engine.telling import TELL_SECONDS, worth_telling


class Replica(DecoderReplica):
    """Ended by the test: Serve awaits `__del__`, the garbage collector would not."""

    def __del__(self) -> None:  # type: ignore[override]
        pass


def spec(name: str, passes: int) -> RenderSpec:
    prompt = Conditioning(np.zeros((4, 384), np.float16), np.zeros(384, np.float16))
    return RenderSpec(name, prompt, seed=1, passes=passes)


async def test_calls_that_wait_for_a_slot_do_not_wake_each_other() -> None:
    replica = object.__new__(Replica)
    await replica.__init__("paced", {"pass_ms": 20, "per_row_ms": 0}, slots=1)  # type: ignore[misc]
    asked, add = 0, replica._engine.add

    def counted(wanted: RenderSpec) -> bool:
        nonlocal asked
        asked += wanted.render_id == "second"
        return add(wanted)

    replica._engine.add = counted  # type: ignore[method-assign]

    async def kinds(wanted: RenderSpec) -> list[UpdateKind]:
        return [update.kind async for update in replica.render(wanted)]

    first = asyncio.create_task(kinds(spec("first", passes=16)))
    await asyncio.sleep(0)
    waiting = await asyncio.gather(*(kinds(spec(name, passes=2)) for name in ("second", "third")))
    assert {ended[-1] for ended in (await first, *waiting)} == {UpdateKind.DONE}
    # 16 boundaries and the polls between; calls that wake each other ask thousands of times
    assert 1 < asked <= 500
    await DecoderReplica.__del__(replica)


@pytest.mark.parametrize(
    ("kind", "pass_no", "preview", "since_seconds", "told"),
    [
        (UpdateKind.PASS, 3, None, 0.0, False),
        (UpdateKind.PASS, 3, None, TELL_SECONDS, True),
        (UpdateKind.PASS, 8, None, 0.0, True),  # the final checkpoint
        (UpdateKind.PASS, 3, np.zeros((1, 1, 3), np.uint8), 0.0, True),
        (UpdateKind.ACCEPTED, 0, None, 0.0, True),
        (UpdateKind.FAILED, 3, None, 0.0, True),
    ],
)
def test_routine_passes_are_told_now_and_then(
    kind: UpdateKind, pass_no: int, preview: Pixels | None, since_seconds: float, told: bool
) -> None:
    update = RenderUpdate("a", kind, pass_no=pass_no, preview=preview)
    assert worth_telling(update, 8, since_seconds) is told


async def test_a_fast_render_tells_its_last_pass_and_its_previews() -> None:
    replica = object.__new__(Replica)
    await replica.__init__("paced", {"pass_ms": 1, "per_row_ms": 0}, slots=1)  # type: ignore[misc]
    wanted = replace(spec("fast", passes=16), preview_after=(5,))
    updates = [update async for update in replica.render(wanted)]
    passes = [update.pass_no for update in updates if update.kind is UpdateKind.PASS]
    assert {5, 16} <= set(passes) < set(range(1, 17))
    assert passes == sorted(passes)
    await DecoderReplica.__del__(replica)


async def test_who_is_asked_to_leave_tells_its_last_pass_however_fast() -> None:
    replica = object.__new__(Replica)
    await replica.__init__("paced", {"pass_ms": 20, "per_row_ms": 0}, slots=1)  # type: ignore[misc]
    drawn: list[int] = []
    step = replica._engine._decoder.step

    def counted(batch: Sequence[Render]) -> None:
        step(batch)
        drawn.append(batch[0].pass_no)

    replica._engine._decoder.step = counted  # type: ignore[method-assign]
    updates: list[RenderUpdate] = []
    async for update in replica.render(spec("leaving", passes=200)):
        updates.append(update)
        if update.kind is UpdateKind.PASS:
            await replica.leave(["leaving", "a stranger"])
    assert updates[-1].kind is UpdateKind.LEFT
    assert (updates[-1].pass_no, updates[-1].checkpoint is not None) == (drawn[-1], True)
    assert drawn == list(range(1, len(drawn) + 1))
    await DecoderReplica.__del__(replica)
