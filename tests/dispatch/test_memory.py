"""A decoder whose memory holds fewer renders than it has slots: the surplus waits for room, without
an attempt and without a pass drawn twice."""

from __future__ import annotations

from pathlib import Path

from jobs.job import JobState
from tests.dispatch.dispatch_kit import once, undisturbed, world
from tests.dispatch.dispatch_stages import Replica, until


async def test_what_does_not_fit_goes_on_elsewhere_or_later(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(4), Replica(1)) as it:
        large, _ = it.lane.replicas
        large.decoder.fits = 2
        large.gate.close()
        job = it.submit(n=6)
        it.start(ready=6)
        await until(lambda: large.kinds["accepted"] == 4, "all of its slots are taken")
        large.gate.open()
        ended = await it.ended(job)
        assert (ended.attempts, ended.errors) == (0, ())
        assert [render.attempts for render in ended.renders] == [0] * 6
        assert it.pictures(ended) == undisturbed(job.request)
        assert it.told == once(job)
        assert large.kinds["left"] >= 2


async def test_a_dispatcher_stops_while_renders_leave_for_want_of_memory(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(4)) as it:
        (replica,) = it.lane.replicas
        replica.decoder.fits = 1
        jobs = [it.submit(seed=100 * i, n=2) for i in range(3)]
        running = it.start()
        await it.ended(jobs[0])
        await running.stop()
        it.start()
        for job in jobs:
            ended = await it.ended(job)
            assert (ended.attempts, it.pictures(ended)) == (0, undisturbed(job.request))


async def test_one_that_fits_no_decoder_fails_at_once_with_what_would(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(2)) as it:
        (replica,) = it.lane.replicas
        replica.decoder.fits = 0
        job = it.submit()
        it.start()
        ended = await it.ended(job, JobState.FAILED)
        assert ended.renders[0].error == (
            "there is not enough memory for this render, even alone: 128x128 fits"
        )
        assert replica.kinds["accepted"] == 1, "trying again is of no use"
