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
from engine.footprint import Footprint
from engine.measuring import StartReport, WeightsLoad
from engine.model_directory.capacity import GIB
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


@dataclass
class Decoder:
    """Says what it measured; while `away` it is a version that cannot."""

    report: StartReport | None
    away: bool = False
    asked: int = 0

    async def __call__(self) -> StartReport | None:
        self.asked += 1
        if self.away:
            raise AttributeError("start_report")
        return self.report


@asynccontextmanager
async def announced(
    it: World, look: Look, decoder: Decoder | None = None
) -> AsyncIterator[Announcing]:
    announces = Announcing(it.start().ledger, look, decoder or Decoder(None), PHOTO)
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


REPORT = StartReport(
    width=4, pass_seconds=0.025, seconds={1: 0.04, 4: 0.1},
    footprint=Footprint(8 * GIB, 2 * GIB, 0, 0, {1: 0}), load=WeightsLoad(2 * 10**9, 3.0),
)  # fmt: skip


async def test_what_a_decoder_measured_is_announced_in_place_of_what_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "LOOK_SECONDS", 0.01)
    decoder, look = Decoder(REPORT), Look(DecodersNow(True, 7.5))
    async with world(tmp_path) as it, announced(it, look, decoder):
        await until(partial(known, it, availability(True)), "one comes with the work")
        assert decoder.asked == 0, "it would have to be started"
        look.now = DecodersNow(available=True)
        found = await until(partial(known, it, lambda one: one.announcement.measured), "measured")
        assert found.announcement.pass_seconds == 0.025
        assert found.announcement.measured == {
            "width": 4, "pass_seconds": 0.025, "weights_gib": 2, "usable_gib": 8,
            "load_seconds": 3.0, "load_seconds_per_gb": 1.5,
        }  # fmt: skip
        assert decoder.asked == 1


async def test_one_that_cannot_say_what_it_measured_draws_all_the_same_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "LOOK_SECONDS", 0.01)
    decoder = Decoder(None, away=True)
    async with world(tmp_path) as it, announced(it, Look(DecodersNow(available=True)), decoder):
        found = await until(partial(known, it, availability(True)), "it is available")
        assert found.announcement == PHOTO
        decoder.report, decoder.away = REPORT, False
        await until(partial(known, it, lambda one: one.announcement.measured), "measured")


@pytest.mark.parametrize(
    ("qualities", "passes"),
    [({"low": 4, "medium": 9, "high": 20}, 9), ({"fast": 2, "fine": 8, "finest": 30}, 8), ({}, 1)],
)
def test_passes_of_a_usual_picture(qualities: dict[str, int], passes: int) -> None:
    assert announcing.usual_passes(qualities) == passes
