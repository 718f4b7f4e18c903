"""Calls that are silent: of replicas that are slow, and of those that are cut off, in one direction
or both. Nothing is drawn twice into the ledger, and no slot stays taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from dispatch.ports import StageUnavailable
from dispatch.silence import ReplicaSilent, unless_silent
from engine.render import RenderSpec, RenderUpdate
from tests.dispatch.dispatch_kit import once, undisturbed, world
from tests.dispatch.dispatch_stages import Replica, until

SILENT_SECONDS, AGAIN_SECONDS = 0.02, 0.01


class Answers:
    """Of a replica that is asked whether it lives; the last one stays."""

    def __init__(self, *answers: bool) -> None:
        self._answers: Iterator[bool] = iter(answers)
        self._last = answers[-1]
        self.asked = 0

    async def __call__(self) -> bool:
        self.asked += 1
        return next(self._answers, self._last)


async def listen(work: asyncio.Future[str], lives: Answers) -> str:
    return await unless_silent(work, lives, SILENT_SECONDS, AGAIN_SECONDS)


async def test_a_slow_replica_that_lives_is_waited_for() -> None:
    work: asyncio.Future[str] = asyncio.Future()
    lives = Answers(True, False, True)  # one question may be lost
    waiting = asyncio.create_task(listen(work, lives))
    await until(lambda: lives.asked > 5, "it was asked often")
    work.set_result("late")
    assert await waiting == "late"


async def test_one_that_does_not_answer_is_given_up() -> None:
    work: asyncio.Future[str] = asyncio.Future()
    lives = Answers(True, True, False)
    with pytest.raises(ReplicaSilent):
        await listen(work, lives)
    assert work.cancelled()
    assert lives.asked == 4


async def test_a_quick_answer_asks_nothing_and_an_error_passes() -> None:
    work: asyncio.Future[str] = asyncio.Future()
    lives = Answers(False)
    work.set_exception(ArithmeticError("the call failed"))
    with pytest.raises(ArithmeticError):
        await listen(work, lives)
    assert lives.asked == 0


async def test_a_caller_that_leaves_ends_the_call() -> None:
    work: asyncio.Future[str] = asyncio.Future()
    waiting = asyncio.create_task(listen(work, Answers(True)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert work.cancelled()


class Reached(Replica):
    """Over a network. `deaf`: what is sent to it does not arrive, the end of a stream neither.
    `mute`: what it sends does not arrive."""

    deaf = mute = False

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See Slot."""
        arrived: asyncio.Queue[RenderUpdate | None] = asyncio.Queue()
        drawing = asyncio.create_task(self._draw(spec, arrived))
        try:
            while (update := await self._heard(arrived)) is not None:
                yield update
        finally:
            if not self.deaf:
                drawing.cancel()
                await asyncio.wait({drawing})

    async def _draw(self, spec: RenderSpec, arrived: asyncio.Queue[RenderUpdate | None]) -> None:
        async with aclosing(super().render(spec)) as updates:
            async for update in updates:
                if not self.mute:
                    arrived.put_nowait(update)
        if not self.mute:
            arrived.put_nowait(None)

    async def _heard(self, arrived: asyncio.Queue[RenderUpdate | None]) -> RenderUpdate | None:
        try:
            return await unless_silent(arrived.get(), self._lives, SILENT_SECONDS, AGAIN_SECONDS)
        except ReplicaSilent:
            raise StageUnavailable("the replica is silent") from None

    async def _lives(self) -> bool:
        return not (self.deaf or self.mute)

    @property
    def available(self) -> bool:
        """Silent ones are left out."""
        return not (self.deaf or self.mute) and super().available


@pytest.mark.parametrize("cut", ["mute", "deaf", "both"])
async def test_a_render_goes_on_elsewhere_from_what_was_heard_last(
    tmp_path: Path, cut: str
) -> None:
    lost, other = Reached(4), Reached(4)
    async with world(tmp_path, lost) as it:
        running = it.start()
        job = it.submit(n=2)
        lost.close_after.add((job.request.seed, 3))
        await it.at_pass(job, 3)
        lost.close_after.clear()
        await it.lane.add(other)
        lost.mute, lost.deaf = cut != "deaf", cut != "mute"
        ended = await it.ended(job)  # the pass there is held: it is silent in both directions
        assert it.pictures(ended) == undisturbed(job.request)
        assert (ended.attempts, [render.attempts for render in ended.renders]) == (0, [0, 0])
        assert it.settled == {(job.id, 0): 1, (job.id, 1): 1}
        lost.gate.open()
        lost.mute = lost.deaf = False  # the cut ends, and what it still draws comes too late
        await until(lambda: it.drawing == 0, "no slot stays taken")
        await until(lambda: running.dispatcher.held_jobs == 0, "nothing is held")
        assert it.settled == {(job.id, 0): 1, (job.id, 1): 1}
        assert set(once(job)) <= set(it.told)
