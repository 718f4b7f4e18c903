"""The dispatcher when leases, the ledger or itself go wrong: every image is settled once, by one,
and no pass that was checkpointed is drawn again."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from jobs.job import JobState, RenderState
from tests.dispatch.dispatch_kit import once, undisturbed, world
from tests.dispatch.dispatch_stages import Replica, drawn, until
from tests.stages.ledger_kit import LEASE_SECONDS


async def test_a_lost_lease_drops_the_renders_and_writes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(n=2)
        (replica,) = it.lane.replicas
        replica.close_after.add((job.request.seed, 3))
        robbed = it.start(waiting=1)
        held = await it.at_pass(job, 3)
        it.prompts.away = True
        other = it.submit(n=2, prompt="a blue fox")  # as many as may wait: it does not claim again
        await it.when(other, lambda job: job.state is JobState.LEASED, "its ready queue is full")
        it.sql.release(job.id, held.fence)
        it.sql.claim("chat", "thief", 1, LEASE_SECONDS)
        stolen = it.sql.get(job.id)
        assert stolen is not None
        assert stolen.worker == "thief"
        await until(lambda: robbed.dispatcher.held_jobs == 1, "it is let go")
        replica.gate.open()
        await until(lambda: it.drawing == 0, "the slots are free")
        assert it.sql.get(job.id) == stolen
        assert (it.files.stored, it.settled) == (0, Counter())


async def test_an_end_is_written_once_however_long_the_ledger_is_away(tmp_path: Path) -> None:
    async with world(tmp_path, busy_seconds=0.1) as it:
        job = it.submit()
        (replica,) = it.lane.replicas
        replica.close_after.add((job.request.seed, 7))
        running = it.start()
        await it.at_pass(job, 7)
        with it.ledger_away():
            replica.gate.open()
            await until(lambda: running.ledger.tries > 1, "the end is tried again")
            assert it.files.stored == 1
        ended = await it.ended(job)
        assert it.settled == {(job.id, 0): 1}
        assert (ended.fence, it.files.stored) == (1, 1)
        await until(lambda: running.dispatcher.held_jobs == 0, "nothing is held")


async def test_an_end_whose_answer_was_lost_is_not_a_lost_lease(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(1)) as it:
        job = it.submit(n=3)
        (replica,) = it.lane.replicas
        replica.close_after.add((job.request.image_seed(1), 1))
        running = it.start()
        running.ledger.forgets = True
        await until(lambda: running.ledger.tries > 1, "the first image's end is tried again")
        replica.gate.open()
        ended = await it.ended(job)
        assert it.settled == {(job.id, index): 1 for index in range(3)}
        assert (ended.fence, it.told) == (1, once(job))
        await until(lambda: running.dispatcher.held_jobs == 0, "nothing is held")


async def test_a_second_bad_verdict_does_not_undo_the_first(tmp_path: Path) -> None:
    """Its write is waiting for the ledger when the other preview turns out bad, too."""
    async with world(tmp_path, busy_seconds=0.1) as it:
        job = it.submit()
        it.verdicts.bad += [drawn(job.request, 0, passes=n) for n in (2, 4)]
        it.verdicts.answers.clear()
        it.lane.replicas[0].close_after.add((job.request.seed, 5))
        running = it.start(screen_at=(0.25, 0.5))
        await until(lambda: it.verdicts.asked == 2, "both are being screened")
        with it.ledger_away():
            it.verdicts.answers.set()
            await until(lambda: running.ledger.tries > 1, "the end is tried again")
        ended = await it.ended(job, JobState.BLOCKED)
        assert ended.fence == 1
        await until(lambda: running.dispatcher.held_jobs == 0, "nothing is held")


async def test_a_dispatcher_that_stops_gives_everything_back(tmp_path: Path) -> None:
    first, second = Replica(2), Replica(2)
    async with world(tmp_path, first) as it:
        jobs = [it.submit(seed=100 * i) for i in range(4)]
        first.close_after.add((0, 3))
        leaving = it.start(last_pass_seconds=0.0)
        await until(lambda: first.gate.closed, "the passes are held")
        for seed, job in ((0, jobs[0]), (100, jobs[1])):
            told = [pass_no for of, pass_no in first.told if of == seed]
            if told:
                await it.at_pass(job, max(told))
        await leaving.stop()
        back = [it.sql.get(job.id) for job in jobs]
        assert [(job.state, job.attempts, job.errors) for job in back if job] == [
            (JobState.QUEUED, 0, ())
        ] * 4
        assert back[0] is not None
        assert (back[0].renders[0].pass_no, bool(back[0].renders[0].checkpoint)) == (3, True)
        it.start(second)
        for job in jobs:
            ended = await it.ended(job)
            assert it.pictures(ended) == undisturbed(job.request)
        assert it.told == sum((once(job) for job in jobs), Counter())


async def test_a_killed_dispatcher_costs_no_pass_that_a_heartbeat_carried(tmp_path: Path) -> None:
    first, second = Replica(2), Replica(2)
    async with world(tmp_path, first) as it:
        job = it.submit()
        first.close_after.add((job.request.seed, 3))
        doomed = it.start()
        await it.at_pass(job, 3)
        await doomed.kill()
        it.lapse()
        it.start(second)
        ended = await it.ended(job)
        assert it.pictures(ended) == undisturbed(job.request)
        assert it.told == once(job)
        assert sorted(pass_no for _, pass_no in second.told) == [4, 5, 6, 7, 8]
        assert ended.attempts == 0, "it had got further"


async def test_two_dispatchers_share_a_lane_and_settle_each_image_once(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(2), Replica(2)) as it:
        jobs = [it.submit(seed=100 * i, n=2) for i in range(10)]
        for _ in range(2):
            it.start()
        for job in jobs:
            ended = await it.ended(job)
            assert ended.fence == 1
            assert it.pictures(ended) == undisturbed(job.request)
        assert it.settled == {(job.id, index): 1 for job in jobs for index in range(2)}
        assert it.told == sum((once(job) for job in jobs), Counter())


async def test_one_that_was_cut_off_settles_nothing_that_another_took_over(tmp_path: Path) -> None:
    first, second = Replica(1), Replica(1)
    async with world(tmp_path, first) as it:
        jobs = [it.submit(seed=seed) for seed in (1, 1000)]
        first.close_after.add((1, 3))
        silent = it.start(heartbeat_seconds=3600.0, ready=1)
        await until(lambda: first.gate.closed and silent.dispatcher.held_jobs == 2, "both are held")
        it.lapse()
        heir = it.start(second)
        for job in jobs:
            ended = await it.ended(job)
            assert it.pictures(ended) == undisturbed(job.request)
            assert f"-{ended.fence}." in (ended.renders[0].blob or "")
        first.gate.open()
        await until(lambda: silent.dispatcher.held_jobs == 0, "it finds out")
        assert silent.ledger.settled == Counter()
        assert heir.ledger.settled == {(job.id, 0): 1 for job in jobs}
        assert not set(first.ids) & set(second.ids), "the fence keeps orphans apart"


async def test_one_that_gets_its_own_lapsed_job_again_draws_it_once(tmp_path: Path) -> None:
    (replica,) = replicas = (Replica(2),)
    async with world(tmp_path, *replicas) as it:
        job = it.submit()
        replica.close_after.add((job.request.seed, 3))
        running = it.start(heartbeat_seconds=3600.0)
        await until(lambda: replica.gate.closed, "the passes are held")
        it.lapse()
        await until(lambda: len(replica.ids) == 2, "it is dispatched under the next lease")
        replica.close_after.clear()
        replica.gate.open()
        ended = await it.ended(job)
        assert it.pictures(ended) == undisturbed(job.request)
        assert (it.settled, it.files.stored) == ({(job.id, 0): 1}, 1)
        await until(lambda: it.drawing == 0, "the orphan is gone")
        assert len(set(replica.ids)) == 2
        await until(lambda: running.dispatcher.held_jobs == 0, "nothing is held")


async def test_a_bug_costs_an_attempt_and_never_a_job(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(n=2)
        running = it.start()
        running.ledger.breaks = ArithmeticError("a bug of ours")
        ended = await it.ended(job)
        assert it.pictures(ended) == undisturbed(job.request)
        assert "a bug of ours" in ended.errors[0]
        assert it.settled == {(job.id, 0): 1, (job.id, 1): 1}
        await until(lambda: running.dispatcher.held_jobs == 0, "nothing is held")


async def test_a_prompt_that_breaks_the_encoder_fails_and_does_not_block_the_ready_queue(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as it:
        it.prompts.breaks = True
        poison = [it.submit(seed=seed) for seed in range(3)]
        it.start(ready=1)
        for job in poison:
            ended = await it.ended(job, JobState.FAILED)
            assert ended.renders[0].state is RenderState.FAILED
            assert len(ended.errors) == 3
            assert "the encoder broke" in ended.errors[-1]
        it.prompts.breaks = False
        await it.ended(it.submit(seed=9))


async def test_stopping_while_the_ledger_is_away_loses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, busy_seconds=0.1) as it:
        job = it.submit()
        it.lane.replicas[0].close_after.add((job.request.seed, 3))
        leaving = it.start(last_pass_seconds=0.0)
        await it.at_pass(job, 3)
        with it.ledger_away():
            await leaving.stop()
        it.lane.replicas[0].gate.open()
        it.lapse()
        it.start()
        ended = await it.ended(job)
        assert it.pictures(ended) == undisturbed(job.request)
        assert it.told == once(job)


async def test_nothing_of_a_killed_dispatcher_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = it.submit(n=3)
        it.lane.replicas[0].close_after.add((job.request.seed, 2))
        doomed = it.start()
        await it.at_pass(job, 2)
        before = asyncio.all_tasks()
        await doomed.kill()
        it.lane.replicas[0].gate.open()
        await until(lambda: it.drawing == 0, "the slots are free")
        assert asyncio.all_tasks() < before
        assert it.lane.replicas[0].reserved == 0
