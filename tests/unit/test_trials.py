"""Who is at fault when a stage is lost: the rules, one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dispatch.ports import CallFailed, CallLost, SourceGone, StageUnavailable
from dispatch.trials import MOST_EXCUSED, UNACCEPTED, Losses, Trials, Turns, call


async def well() -> None:
    """A probe that is answered."""


async def gone() -> None:
    raise CallLost("the probe is lost, too")


async def lost() -> None:
    raise CallLost("the process died")


async def test_a_call_is_bounded_and_its_error_names_the_stage() -> None:
    async def raises(error: Exception) -> None:
        raise error

    with pytest.raises(CallLost, match=r"image screen: no answer within 0.01 s"):
        await call("image screen", asyncio.sleep(60), 0.01)
    with pytest.raises(CallFailed, match="blend: ArithmeticError"):
        await call("blend", raises(ArithmeticError("x" * 9000)), 1.0)
    with pytest.raises(CallLost, match="blend: died"):
        await call("blend", raises(CallLost("died")), 1.0)
    with pytest.raises(SourceGone, match=r"^send it again$"):
        await call("source", raises(SourceGone("send it again")), 1.0)


async def test_the_first_loss_is_no_proof() -> None:
    with pytest.raises(CallLost):
        await Trials(well).run("eve", False, lost)


async def test_a_loss_alone_is_proof_while_the_stage_is_well() -> None:
    with pytest.raises(CallFailed, match="also alone"):
        await Trials(well).run("eve", True, lost)
    with pytest.raises(StageUnavailable, match="for a good call") as error:
        await Trials(gone).run("eve", True, lost)
    assert not isinstance(error.value, CallLost)


async def test_a_loss_with_others_is_no_proof() -> None:
    trials, death = Trials(well), asyncio.Event()

    async def dies() -> None:
        await death.wait()
        raise CallLost("the process died")

    async def kills() -> None:
        death.set()
        raise CallLost("the process died")

    company = asyncio.create_task(trials.run("ada", False, dies))
    await asyncio.sleep(0)
    with pytest.raises(StageUnavailable, match="others with it"):
        await trials.run("eve", True, kills)
    with pytest.raises(CallLost):
        await company


async def test_nothing_begins_beside_a_suspect_for_a_moment() -> None:
    trials, end = Trials(well), asyncio.Event()
    began: list[str] = []

    def work(name: str, wait: asyncio.Event | None = None) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            began.append(name)
            if wait is not None:
                await wait.wait()

        return run

    suspect = asyncio.create_task(trials.run("eve", True, work("suspect", end)))
    await asyncio.sleep(0)
    other = asyncio.create_task(trials.run("ada", False, work("other")))
    await asyncio.sleep(0.01)
    assert began == ["suspect"]
    end.set()
    await asyncio.gather(suspect, other)
    assert began == ["suspect", "other"]


async def test_tenants_take_turns_and_those_that_leave_lose_theirs() -> None:
    turns, order = Turns(), list[str]()

    async def take(tenant: str, name: str) -> None:
        async with turns.of(tenant):
            order.append(name)
            await asyncio.sleep(0)

    names = [("eve", "e1"), ("eve", "e2"), ("eve", "e3"), ("ada", "a1"), ("eve", "e4")]
    tasks = [asyncio.create_task(take(*name)) for name in names]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["e1", "e2", "a1", "e4"]


def test_a_render_is_blamed_for_what_it_loses_alone_and_without_progress() -> None:
    losses = Losses()
    assert not losses.lost(True, 1, killer_beside=False), "it may have been in company"
    assert losses.suspect, "so its next stream is alone"
    assert losses.lost(True, 2, killer_beside=False)
    losses.progressed()
    assert not losses.lost(True, 3, killer_beside=False)


def test_decoders_that_accept_nothing_at_all_are_away() -> None:
    losses = Losses()
    for _ in range(10 * UNACCEPTED):
        assert not losses.lost(False, 0, killer_beside=False)
    assert not losses.suspect
    for accepted_elsewhere in range(1, UNACCEPTED + 1):
        assert not losses.lost(False, accepted_elsewhere, killer_beside=False)
    assert losses.suspect


def test_a_suspect_beside_a_killer_of_decoders_is_excused_a_few_times() -> None:
    losses = Losses()
    assert not losses.lost(True, 0, killer_beside=True)
    assert losses.suspect
    for _ in range(MOST_EXCUSED):
        assert not losses.lost(True, 0, killer_beside=True)
    assert losses.lost(True, 0, killer_beside=True), "there is no end of it otherwise"
