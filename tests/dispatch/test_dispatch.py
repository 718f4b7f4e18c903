"""The dispatcher over a real ledger, real blobs and real engines, when nothing goes wrong with
itself: verdicts, outages of its stages, lost decoders, cancels."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dispatch.ports import StageUnavailable
from engine.render import Checkpoint
from jobs.job import JobState, RenderState
from tests.dispatch.dispatch_kit import once, undisturbed, world
from tests.dispatch.dispatch_stages import Files, Replica, drawn, expired_identity, until


async def test_a_bad_preview_ends_its_image_within_one_pass_and_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(n=4)
        bad = job.request.image_seed(1)
        it.verdicts.bad.append(drawn(job.request, 1, passes=4))
        it.lane.replicas[0].close_after.add((bad, 4))
        it.start()
        await it.when(
            job, lambda job: job.renders[1].state is RenderState.BLOCKED, "image 1 is blocked"
        )
        it.lane.replicas[0].gate.open()
        ended = await it.ended(job)
        assert [render.state for render in ended.renders] == [
            RenderState.SUCCEEDED,
            RenderState.BLOCKED,
            RenderState.SUCCEEDED,
            RenderState.SUCCEEDED,
        ]
        assert (ended.renders[1].stage, ended.renders[1].categories) == ("output", ("weapons",))
        assert it.pictures(ended) == undisturbed(job.request, 0, 2, 3)
        assert max(pass_no for seed, pass_no in it.told if seed == bad) == 4


async def test_a_bad_final_picture_is_never_stored(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit()
        it.verdicts.bad.append(drawn(job.request, 0))
        it.start()
        ended = await it.ended(job, JobState.BLOCKED)
        assert (ended.renders[0].stage, it.files.stored) == ("output", 0)


async def test_a_file_is_made_beside_its_screening_and_stored_after_it(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(partial_images=1)
        it.verdicts.answers.clear()
        it.start(heartbeat_seconds=0.01)
        await until(lambda: it.files.encoded == 2, "preview and picture are files")
        await asyncio.sleep(0.1)
        waiting = await it.when(job, bool, "it is there")
        assert (waiting.renders[0].previews, waiting.ended, it.files.stored) == ((), False, 0)
        it.verdicts.answers.set()
        assert it.pictures(await it.ended(job)) == undisturbed(job.request)


async def test_a_blocked_prompt_takes_no_slot(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(prompt="a bomb", n=2)
        it.start()
        ended = await it.ended(job, JobState.BLOCKED)
        assert [render.stage for render in ended.renders] == ["input", "input"]
        assert it.lane.taken == 0


async def test_every_preview_that_was_asked_for_is_in_the_ledger_with_the_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        jobs = [it.submit(partial_images=3, seed=100 * i) for i in range(5)]
        it.start(heartbeat_seconds=3600.0)
        for job in jobs:
            assert (await it.ended(job)).renders[0].previews == (1, 4, 6)


async def test_no_preview_is_shown_before_an_earlier_one(tmp_path: Path) -> None:
    """The screening of the first takes longer than those of all others."""
    async with world(tmp_path) as it:
        job = it.submit(partial_images=3)
        it.verdicts.late.append(drawn(job.request, 0, passes=1))
        it.verdicts.answers.clear()
        it.start(heartbeat_seconds=0.01)
        await until(lambda: it.verdicts.asked == 4, "the final picture is screened, too")
        await asyncio.sleep(0.1)
        assert (await it.when(job, bool, "it is there")).renders[0].previews == ()
        it.verdicts.answers.set()
        assert (await it.ended(job)).renders[0].previews == (1, 4, 6)


async def test_a_picture_keeps_its_tokens_even_if_no_heartbeat_ever_told_of_them(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        job = it.submit(n=2)
        it.start(heartbeat_seconds=3600.0)
        for render in (await it.ended(job)).renders:
            assert render.checkpoint is not None
            final = Checkpoint.from_bytes(render.checkpoint)
            assert (final.pass_no, final.seed) == (8, job.request.image_seed(render.index))


@pytest.mark.parametrize("stage", ["classifier", "store", "signer"])
async def test_a_picture_whose_stage_is_away_waits_in_finishing_without_pixels(
    tmp_path: Path, stage: str
) -> None:
    async with world(tmp_path) as it:
        if stage == "classifier":
            it.verdicts.away = StageUnavailable("no classifier")
        it.files.away = stage == "store"
        if stage == "signer":
            it.files = Files(it.blobs, identity=expired_identity(tmp_path / "own"))
        job = it.submit()
        waiting = it.start(retry_seconds=3600.0)
        await it.when(job, lambda job: job.state is JobState.FINISHING, "it waits in finishing")
        await until(lambda: it.lane.pictures_alive == 0, "nobody holds its pixels")
        await waiting.stop()
        queued = it.sql.get(job.id)
        assert queued is not None
        assert (queued.state, queued.renders[0].state) == (JobState.QUEUED, RenderState.FINISHING)
        it.verdicts.away, it.files = None, Files(it.blobs)
        it.start()
        ended = await it.ended(job)
        assert (ended.attempts, ended.renders[0].attempts, ended.errors) == (0, 0, ())
        assert it.pictures(ended) == undisturbed(job.request)
        assert it.told == once(job), "finished from its last checkpoint, nothing drawn again"


@pytest.mark.parametrize("away", [StageUnavailable("gone"), asyncio.CancelledError()])
async def test_a_stage_that_comes_back_is_asked_again_and_no_attempt_counted(
    tmp_path: Path, away: BaseException
) -> None:
    """A Serve replica that leaves cancels its calls: their callers see a CancelledError."""
    async with world(tmp_path) as it:
        it.verdicts.away = away
        job = it.submit()
        running = it.start(attempts=1)
        await until(lambda: it.verdicts.asked > 5, "it is asked again and again")
        it.verdicts.away = None
        ended = await it.ended(job)
        assert (ended.fence, ended.errors) == (1, ())
        assert it.told == once(job)
        await until(lambda: running.dispatcher.held_jobs == 0, "nothing is held")


async def test_a_prompt_waits_for_its_encoder(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.prompts.away = True
        job = it.submit()
        it.start(attempts=1)
        await it.when(job, lambda job: job.state is JobState.LEASED, "it is held")
        assert it.lane.taken == 0
        it.prompts.away = False
        assert (await it.ended(job)).fence == 1


@pytest.mark.parametrize("how", [StageUnavailable("killed"), asyncio.CancelledError()])
async def test_a_lost_decoder_costs_no_pass(tmp_path: Path, how: BaseException) -> None:
    first, second = Replica(1), Replica(1)
    async with world(tmp_path, first) as it:
        job = it.submit()
        first.close_after.add((job.request.seed, 3))
        it.start(attempts=1)
        await it.at_pass(job, 3)
        await it.lane.add(second)
        first.lose(how)
        ended = await it.ended(job)
        assert it.pictures(ended) == undisturbed(job.request)
        assert it.told == once(job)
        assert sorted(pass_no for _, pass_no in second.told) == [4, 5, 6, 7, 8]
        assert (ended.fence, ended.errors) == (1, ())


async def test_an_image_that_breaks_its_pass_fails_after_its_attempts(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(n=2)
        (replica,) = it.lane.replicas
        replica.decoder.broken.add(job.request.image_seed(0))
        it.start(attempts=3)
        ended = await it.ended(job)
        assert ended.renders[0].state is RenderState.FAILED
        assert "the pass broke" in (ended.renders[0].error or "")
        assert replica.kinds["failed"] == 3
        assert it.pictures(ended) == undisturbed(job.request, 1)


async def test_new_ground_wipes_out_earlier_attempts(tmp_path: Path) -> None:
    """Lost before its first pass, each time on another replica: twice is forgiven, in a row not."""
    async with world(tmp_path, Replica(1)) as it:
        (replica,) = it.lane.replicas
        replica.gate.close()
        job = it.submit()
        it.start(attempts=2)
        for pass_no in (1, 2, 3):
            await until(lambda r=replica: r.kinds["accepted"] == 1, "it has a slot")
            doomed, replica = replica, Replica(1)
            replica.close_after.add((job.request.seed, pass_no))
            await it.lane.add(replica)
            doomed.lose()
            await it.at_pass(job, pass_no)
            doomed, replica = replica, Replica(1)
            replica.gate.close()
            await it.lane.add(replica)
            doomed.lose()
        replica.gate.open()
        assert it.pictures(await it.ended(job)) == undisturbed(job.request)
        assert it.told == once(job)


async def test_what_the_family_cannot_draw_fails_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(passes=300)
        it.start()
        ended = await it.ended(job, JobState.FAILED)
        assert "passes must be" in (ended.renders[0].error or "")
        assert it.lane.replicas[0].kinds["failed"] == 1


async def test_a_full_replica_costs_no_attempt(tmp_path: Path) -> None:
    replica = Replica(slots=1, reservations=2)
    async with world(tmp_path, replica) as it:
        jobs = [it.submit(seed=seed) for seed in (1, 1000)]
        replica.close_after |= {(1, 1), (1000, 1)}
        it.start(attempts=1)
        await until(lambda: replica.kinds["full"] > 1, "the second is told full")
        replica.close_after.clear()
        replica.gate.open()
        for job in jobs:
            ended = await it.ended(job)
            assert (ended.fence, ended.errors) == (1, ())
        assert it.told == once(jobs[0]) + once(jobs[1])


async def test_a_cancelled_job_leaves_its_slots_at_the_next_heartbeat(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(n=2)
        (replica,) = it.lane.replicas
        replica.close_after.add((job.request.seed, 3))
        running = it.start()
        await it.at_pass(job, 3)
        told = replica.told.copy()
        it.sql.cancel(job.id)
        await until(lambda: running.dispatcher.held_jobs == 0, "it is let go")
        await until(lambda: not replica.engine.running, "its renders are aborted")
        replica.gate.open()
        await until(lambda: it.drawing == 0, "the slots are free")
        await it.ended(job, JobState.CANCELLED)
        assert replica.told == told, "not one pass more"
        other = it.submit(seed=1000)
        assert it.pictures(await it.ended(other)) == undisturbed(other.request)


async def test_pictures_that_nobody_takes_do_not_pile_up(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(2)) as it:
        it.verdicts.answers.clear()
        jobs = [it.submit(seed=100 * i, passes=1) for i in range(20)]
        running = it.start(finishing=3, ready=2)
        counts: list[int] = []

        def settled_down() -> bool:
            counts.append(it.verdicts.asked)
            return len(counts) > 40 and counts[-1] >= 3 and len(set(counts[-40:])) == 1

        await until(settled_down, "no more pictures are made")
        assert it.lane.pictures_alive <= 3 + 2 + 2
        assert running.dispatcher.held_jobs <= 3 + 2 + 2
        it.verdicts.answers.set()
        for job in jobs:
            await it.ended(job)
