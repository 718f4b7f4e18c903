"""Two models in one ledger: their dispatchers draw only their own, and announce them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from dispatch import announcing
from dispatch.announcing import Announcing
from dispatch.ports import StageUnavailable
from jobs.announcements import AnnouncedModel, Announcement
from tests.dispatch.dispatch_kit import World, world
from tests.dispatch.dispatch_stages import Lane, Replica, until

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


class Decoders(Lane):
    """Of which there are none while `away`."""

    away = True

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[Replica]:
        """See Decoders."""
        if self.away:
            raise StageUnavailable("no replica to wait for")
        async with super().reserve() as replica:
            yield replica


@asynccontextmanager
async def announced(it: World, decoders: Decoders, *, ready: bool) -> AsyncIterator[AnnouncedModel]:
    """The model as it is first read, announced until the end."""
    announces = Announcing(it.start().ledger, decoders, PHOTO, ready=ready)
    task = asyncio.create_task(announces.run())
    found = await until(partial(one_of, it), "it is announced")
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def one_of(it: World, *, available: bool = False) -> AnnouncedModel | None:
    """What the ledger has of it; with `available` once it is."""
    found = await asyncio.to_thread(it.sql.models, "chat")
    return next((one for one in found if one.available or not available), None)


async def test_a_model_is_ready_once_a_decoder_has_held_a_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "RETRY_SECONDS", 0.01)
    async with world(tmp_path) as it:
        decoders = Decoders(*it.lane.replicas)
        async with announced(it, decoders, ready=False) as first:
            assert (first.announcement, first.ready_at, first.available) == (PHOTO, None, False)
            decoders.away = False
            await until(partial(one_of, it, available=True), "a decoder is there")


async def test_decoders_that_come_with_the_work_need_not_be_there(tmp_path: Path) -> None:
    async with world(tmp_path) as it, announced(it, Decoders(), ready=True) as first:
        assert first.available
