"""The decoder replica's async front, without a cluster."""

from __future__ import annotations

import asyncio
import warnings

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, while it is imported
    from deployments.decoder import DecoderReplica
from engine.render import Conditioning, RenderSpec, UpdateKind


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
    assert (
        1 < asked <= 40
    )  # 16 boundaries and a few polls; calls that wake each other ask thousands of times
    await DecoderReplica.__del__(replica)
