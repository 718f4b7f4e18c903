"""Checkpoints that are too large for the ledger: in the blob store, with a reference in the row,
and none of them longer than it is needed."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from dispatch.saved import ROW_BYTES, key_of
from engine.render import Checkpoint
from jobs.blobs.collector import Collector
from jobs.blobs.store import job_prefixes
from jobs.job import Job
from jobs.retention import Retention
from tests.dispatch.dispatch_kit import World, once, undisturbed, world
from tests.dispatch.dispatch_stages import Replica, until
from tests.stages.ledger_kit import LEASE_SECONDS

BALLAST = os.urandom(64 * 1024)


def large(slots: int = 2) -> Replica:
    replica = Replica(slots)
    replica.decoder.ballast = BALLAST
    return replica


def kept(it: World, job: Job) -> list[str]:
    """Keys of the job's checkpoints in the store."""
    prefix = job_prefixes(job.id)[2]
    directory = it.blobs._root / prefix
    if not directory.exists():
        return []
    return sorted(f"{prefix}/{path.name}" for path in directory.iterdir() if path.suffix == ".bin")


async def saved(it: World, job: Job, passes: int, index: int = 0) -> str:
    """The key that the ledger refers to, once that is the checkpoint after so many passes."""
    found = await it.when(
        job,
        lambda j: j.renders[index].saved_passes == passes,
        f"the checkpoint of pass {passes} is recorded",
    )
    row = found.renders[index].checkpoint
    assert row is not None
    assert len(row) < 200
    key = key_of(row)
    assert key is not None
    return key


async def test_another_dispatcher_goes_on_from_a_blob(tmp_path: Path) -> None:
    async with world(tmp_path, large()) as it:
        (replica,) = it.lane.replicas
        job = it.submit()
        replica.close_after.add((job.request.seed, 3))
        running = it.start()
        key = await saved(it, job, 3)
        checkpoint = Checkpoint.from_bytes(it.blobs.get(key))
        assert (checkpoint.pass_no, checkpoint.state.endswith(BALLAST)) == (3, True)
        # Those that a killed dispatcher leaves behind go with the job, later: retention.
        await until(lambda: kept(it, job) == [key], "older ones are deleted")
        await running.kill()
        replica.gate.open()
        await until(lambda: it.drawing == 0, "what the dead one had sent is aborted")
        it.lapse()
        it.start()
        ended = await it.ended(job)
        assert it.pictures(ended) == undisturbed(job.request)
        assert (ended.fence, ended.attempts) == (3, 0), "3 passes were progress"
        assert replica.told[job.request.seed, 3] == 1, "it was not drawn again"
        assert ended.renders[0].checkpoint is None, "latents are no tokens to edit from"
        await until(lambda: kept(it, job) == [], "no checkpoint is left")


async def test_an_older_one_goes_when_the_newer_is_recorded(tmp_path: Path) -> None:
    async with world(tmp_path, large()) as it:
        (replica,) = it.lane.replicas
        job = it.submit()
        replica.close_after |= {(job.request.seed, 3), (job.request.seed, 5)}
        it.start()
        first = await saved(it, job, 3)
        assert kept(it, job) == [first]
        replica.gate.open()
        newer = await saved(it, job, 5)
        await until(lambda: kept(it, job) == [newer], "the older one is deleted")
        assert newer != first
        replica.gate.open()
        await it.ended(job)


async def test_a_blob_that_is_gone_begins_again_without_an_attempt(tmp_path: Path) -> None:
    async with world(tmp_path, large()) as it:
        (replica,) = it.lane.replicas
        job = it.submit()
        replica.close_after.add((job.request.seed, 3))
        running = it.start(last_pass_seconds=0.0)
        key = await saved(it, job, 3)
        await running.stop()
        replica.close_after.clear()
        replica.gate.open()
        await until(lambda: it.drawing == 0, "it is aborted")
        it.blobs.delete(key)
        it.start()
        ended = await it.ended(job)
        assert (ended.attempts, ended.errors, ended.renders[0].attempts) == (0, (), 0)
        assert it.pictures(ended) == undisturbed(job.request)
        assert replica.told[job.request.seed, 1] == 2


async def test_who_stops_stores_the_newest_first(tmp_path: Path) -> None:
    async with world(tmp_path, large()) as it:
        (replica,) = it.lane.replicas
        job = it.submit()
        replica.close_after.add((job.request.seed, 4))
        running = it.start(heartbeat_seconds=60.0, last_pass_seconds=0.0)
        await until(lambda: replica.gate.closed, "four passes are done")
        await until(lambda: replica.kinds["pass"] == 4, "and heard of")
        await running.stop()
        key = await saved(it, job, 4)
        assert kept(it, job) == [key]
        replica.gate.open()
        it.start()
        ended = await it.ended(job)
        assert it.told == once(job)
        assert it.pictures(ended) == undisturbed(job.request)


async def test_a_store_that_is_away_keeps_no_heartbeat_waiting(tmp_path: Path) -> None:
    async with world(tmp_path, large()) as it:
        (replica,) = it.lane.replicas
        job = it.submit()
        replica.close_after.add((job.request.seed, 3))
        it.start()
        it.files.away = True
        beaten = await it.at_pass(job, 3)
        assert beaten.renders[0].saved_passes == 0
        it.files.away = False
        await saved(it, job, 3)
        replica.gate.open()
        ended = await it.ended(job)
        assert it.told == once(job)
        assert (ended.fence, ended.attempts) == (1, 0)


@pytest.mark.parametrize("bytes_more", [0, ROW_BYTES])
async def test_rare_checkpoints_lose_the_passes_since_and_nothing_else(
    tmp_path: Path, bytes_more: int
) -> None:
    """A decoder dies after pass 5; the last checkpoint is that of pass 1."""
    first, second = Replica(1), Replica(1)
    for replica in (first, second):
        replica.decoder.ballast = bytes(bytes_more)
        replica.decoder.checkpoint_seconds = 1e9
    async with world(tmp_path, first) as it:
        job = it.submit()
        first.gate.close()
        running = it.start()
        await until(lambda: first.engine.running == 1, "it has a slot")
        first.engine.leave(first.ids[0])
        first.close_after.add((job.request.seed, 5))
        first.gate.open()
        await until(lambda: first.kinds["left"] == 1, "its first pass is saved")
        await until(lambda: first.kinds["pass"] == 4, "it goes on without another checkpoint")
        assert first.told == {(job.request.seed, 1): 1}
        await it.lane.add(second)
        first.lose()
        ended = await it.ended(job)
        assert running.dispatcher.held_jobs == 0
        assert it.pictures(ended) == undisturbed(job.request)
        assert (ended.attempts, ended.renders[0].attempts) == (0, 0), "the first loss is no fault"
        assert second.decoder.drawn[job.request.seed, 1] == 0
        assert second.decoder.drawn[job.request.seed, 2] == 1


def busy() -> Replica:
    """Large checkpoints after every 30 ms of passes, which take 10 ms and wait for the gate."""
    replica = large(3)

    def sleep(seconds: float) -> None:
        time.sleep(0.01)
        replica.gate.sleep(seconds)

    replica.decoder.checkpoint_seconds = 0.03
    replica.decoder._sleep = sleep
    return replica


class Trouble:
    """What can happen to a lane, as often as it may without costing a job its attempts."""

    def __init__(self, it: World, rng: random.Random) -> None:
        self._it, self._rng = it, rng
        self._running = [it.start(ready=3), it.start(ready=3)]
        self._deaths = [self.kill, self.lose, self.lose]

    async def happen(self) -> None:
        what = self._rng.choice([self.stop, self.store, self.leave, self.memory, *self._deaths])
        await what()
        if what in self._deaths:
            self._deaths.remove(what)

    async def stop(self) -> None:
        await self._running.pop(0).stop()
        self._running.append(self._it.start(ready=3))

    async def kill(self) -> None:
        await self._running.pop(0).kill()
        self._running.append(self._it.start(ready=3))
        for _ in range(8):  # the others go on beating meanwhile
            self._it.clock.now += LEASE_SECONDS / 8
            await asyncio.sleep(0.03)
            await asyncio.to_thread(self._it.sql.expire)

    async def lose(self) -> None:
        self._it.lane.replicas[0].lose()
        await self._it.lane.add(busy())
        self._it.lane.replicas.append(self._it.lane.replicas.pop(0))

    async def store(self) -> None:
        self._it.files.away = not self._it.files.away

    async def leave(self) -> None:
        replica = self._rng.choice(self._it.lane.replicas)
        replica.leave(list(replica.ids))

    async def memory(self) -> None:
        self._rng.choice(self._it.lane.replicas).decoder.fits = self._rng.choice([1, 2, 3])


async def tick(it: World) -> None:
    """The ledger's clock goes on as the clock on the wall does."""
    while True:
        await asyncio.sleep(0.05)
        it.clock.now += 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_every_picture_is_right_and_no_blob_outlives_its_job(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    async with world(tmp_path, busy(), busy()) as it:
        jobs = [it.submit(seed=1000 * number, n=2, passes=16) for number in range(8)]
        trouble = Trouble(it, rng)
        for _ in range(14):
            await asyncio.sleep(rng.random() * 0.15)
            await trouble.happen()
        it.files.away = False
        ticking = asyncio.create_task(tick(it))  # a lease that is renewed no more lapses
        for job in jobs:
            ended = await it.ended(job)
            assert it.pictures(ended) == undisturbed(job.request)
            assert [render.checkpoint for render in ended.renders] == [None, None]
        ticking.cancel()
        # What a dispatcher that was killed left goes with its job's images.
        collector = Collector(it.dispatchers[-1].ledger, it.blobs, "chat", Retention(10.0, 10.0))
        it.clock.now += 11
        while await collector.turn():
            pass
        await until(lambda: [kept(it, job) for job in jobs] == [[]] * 8, "no checkpoint is left")
