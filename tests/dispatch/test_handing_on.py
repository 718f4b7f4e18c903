"""Renders go on elsewhere when their decoder or their dispatcher is stopped: from the very pass
that was under way, which is drawn once, and without an attempt."""

from __future__ import annotations

import asyncio
from pathlib import Path

from jobs.job import Job, JobState
from tests.dispatch.dispatch_kit import World, once, undisturbed, world
from tests.dispatch.dispatch_stages import Replica, until


async def held_in_a_pass(it: World, passes_done: int = 3) -> Job:
    """A job of two images that are in their next pass until the gate opens."""
    (replica,) = it.lane.replicas
    replica.gate.close()
    job = it.submit(n=2)
    await until(lambda: replica.engine.running == 2, "both have a slot")
    replica.close_after.add((job.request.seed, passes_done))
    replica.gate.open()
    await it.at_pass(job, passes_done)  # the other one may have joined one pass later
    await it.when(job, lambda job: job.renders[1].pass_no >= passes_done - 1, "both were drawn")
    replica.close_after.clear()
    return job


async def ends_as_if_undisturbed(it: World, job: Job) -> None:
    ended = await it.ended(job)
    assert it.pictures(ended) == undisturbed(job.request)
    assert (ended.attempts, [render.attempts for render in ended.renders]) == (0, [0, 0])
    assert it.told == once(job)
    assert sum((r.decoder.drawn for r in it.replicas), type(it.told)()) == it.told
    assert it.settled == {(job.id, 0): 1, (job.id, 1): 1}


async def test_a_decoder_that_stops_hands_its_renders_on(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.start()
        job = await held_in_a_pass(it)
        (stopping,) = it.lane.replicas
        other = Replica(4)
        await it.lane.add(other)
        stopping.hand_on(within_seconds=0.0)
        stopping.gate.open()
        await ends_as_if_undisturbed(it, job)
        assert stopping.kinds["left"] == other.kinds["accepted"] == 2
        assert it.sql.get(job.id).fence == 1, "under the same lease"  # type: ignore[union-attr]


async def test_what_is_done_before_the_node_is_gone_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.start()
        job = await held_in_a_pass(it)
        (stopping,) = it.lane.replicas
        await it.lane.add(Replica(4))
        stopping.hand_on(within_seconds=3600.0)
        stopping.gate.open()
        await ends_as_if_undisturbed(it, job)
        assert stopping.kinds["done"] == 2


async def test_renders_wait_for_room_when_the_only_decoder_stops(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        running = it.start()
        job = await held_in_a_pass(it)
        (stopping,) = it.lane.replicas
        stopping.hand_on(within_seconds=0.0)
        stopping.gate.open()
        await until(lambda: stopping.kinds["left"] == 2, "both have left")
        assert running.dispatcher.held_jobs == 1
        await it.lane.add(Replica(4))
        await ends_as_if_undisturbed(it, job)


async def test_a_dispatcher_that_stops_loses_no_pass(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        leaving = it.start()
        job = await held_in_a_pass(it)
        stopping = asyncio.create_task(leaving.stop())
        await until(lambda: len(it.lane.leaving) == 2, "both are asked to leave")
        it.lane.replicas[0].gate.open()
        await stopping
        queued = it.sql.get(job.id)
        assert queued is not None
        assert queued.state is JobState.QUEUED
        assert {render.pass_no for render in queued.renders} <= {3, 4}, "one pass more"
        it.start()
        await ends_as_if_undisturbed(it, job)


async def test_a_dispatcher_stops_although_no_decoder_hears_it(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        leaving = it.start()
        job = await held_in_a_pass(it)
        it.lane.deaf = True
        await leaving.stop()
        it.lane.replicas[0].gate.open()
        it.start()
        ended = await it.ended(job)
        assert (ended.attempts, it.pictures(ended)) == (0, undisturbed(job.request))
