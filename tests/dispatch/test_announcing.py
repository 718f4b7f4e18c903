"""Two models in one ledger: their dispatchers draw only their own, and announce them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from dispatch import announcing
from dispatch.announcing import AWAY, Announcing, DecodersNow
from jobs.announcements import AnnouncedModel, Announcement
from tests.dispatch.dispatch_kit import World, world
from tests.dispatch.dispatch_stages import Replica, until

PHOTO = Announcement(
    lane="chat", name="photo", queue="chat", family="paced", capabilities={}, guidance=1.0,
    size="64x64", qualities={"medium": 8}, pass_seconds=0.1, identity="0123",
)  # fmt: skip


async def test_two_dispatchers_draw_only_their_own_models(tmp_path: Path) -> None:
    photo, sketch = Replica(2), Replica(2)
    async with world(tmp_path, photo) as it:
        jobs = {
            queue: [it.submit(lane=queue, seed=seed + n) for n in range(3)]
            for queue, seed in (("chat", 100), ("chat/sketch", 200))
        }
        it.start(lane="chat")
        it.start(elsewhere=sketch, lane="chat/sketch")
        for job in [*jobs["chat"], *jobs["chat/sketch"]]:
            await it.ended(job)
        assert {seed for seed, _ in photo.told} == {100, 101, 102}
        assert {seed for seed, _ in sketch.told} == {200, 201, 202}


@dataclass
class Look:
    """At decoders as they are `now`; None: nothing can be said of them."""

    now: DecodersNow | None

    async def __call__(self) -> DecodersNow:
        if self.now is None:
            raise ConnectionError("nothing answers")
        return self.now


@asynccontextmanager
async def announced(it: World, look: Look) -> AsyncIterator[Announcing]:
    announces = Announcing(it.start().ledger, look, PHOTO)
    task = asyncio.create_task(announces.run())
    yield announces
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def known(it: World, met: Callable[[AnnouncedModel], bool]) -> AnnouncedModel | None:
    """The model, once that holds for it."""
    found = await asyncio.to_thread(it.sql.models, "chat")
    return next((one for one in found if met(one)), None)


def availability(expected: bool) -> Callable[[AnnouncedModel], bool]:
    return lambda one: one.available is expected


async def test_a_model_is_available_while_its_decoders_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "LOOK_SECONDS", 0.01)
    look = Look(None)
    async with world(tmp_path) as it, announced(it, look):
        first = await until(partial(known, it, lambda _: True), "it is announced")
        assert (first.announcement, first.ready_at, first.available) == (PHOTO, None, False)
        for now in (DecodersNow(available=True), AWAY, DecodersNow(True, 7.5), AWAY):
            look.now = now
            found = await until(partial(known, it, availability(now.available)), str(now))
            assert found.announcement == replace(PHOTO, start_seconds=now.start_seconds)


async def test_what_was_seen_last_holds_while_nothing_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "LOOK_SECONDS", 0.01)
    look = Look(DecodersNow(available=True))
    async with world(tmp_path) as it, announced(it, look) as announces:
        await until(partial(known, it, lambda one: one.available), "it is available")
        look.now = None
        other = replace(PHOTO, guidance=3.0)
        announces.say(other)
        found = await until(
            partial(known, it, lambda one: one.announcement == other), "it says something else"
        )
        assert found.available
