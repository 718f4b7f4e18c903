"""A paid burst takes slots from free renders, with the real dispatcher, ledger and engines: who was
in the way goes on from its checkpoint, and no pass is drawn twice."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from jobs.job import Job, JobState
from jobs.policy.preemption import PREEMPTIONS_MAX
from jobs.tiers import Tier
from tests.dispatch.dispatch_kit import World, once, undisturbed, world
from tests.dispatch.dispatch_stages import Replica, until
from tests.stages.ledger_kit import PATIENCE_SECONDS

SLOTS = 4
TIERS = {"free": Tier(weight=1), "pro": Tier(weight=9)}


def submit(it: World, tier: str, number: int, **changes: int) -> list[Job]:
    """Jobs of different tenants; a free one has low seeds."""
    first = 0 if tier == "free" else 100_000
    return [
        it.submit(tier=tier, tenant=f"{tier} {i}", seed=first + 100 * i, **changes)
        for i in range(number)
    ]


def stored(it: World, jobs: list[Job]) -> list[Job]:
    found = {job.id: job for job in it.sql.get_many([job.id for job in jobs])}
    return [found[job.id] for job in jobs]


async def all_end_as_if_undisturbed(it: World, jobs: list[Job]) -> None:
    for job in jobs:
        ended = await it.ended(job)
        assert it.pictures(ended) == undisturbed(job.request)
        assert (ended.attempts, ended.errors) == (0, ())
    assert it.told == sum((once(job) for job in jobs), Counter())
    if not it.lane.deaf:
        assert sum((r.decoder.drawn for r in it.lane.replicas), Counter()) == it.told
    assert it.settled == {(job.id, render.index): 1 for job in jobs for render in job.renders}


async def drawing(
    it: World, tier: str, number: int, until_pass: int = 3, **changes: int
) -> list[Job]:
    """That many jobs, of which the first fill all slots, have done a few passes each, and are held
    there until the gate opens."""
    (replica,) = it.lane.replicas
    replica.gate.close()
    jobs = submit(it, tier, number, **changes)
    await until(lambda: replica.engine.running == SLOTS, "all slots are taken")
    replica.close_after |= {(job.request.seed, until_pass) for job in jobs}
    replica.gate.open()
    await until(lambda: replica.gate.closed, "the passes are held")
    replica.close_after.clear()
    return jobs


def preemptions(it: World, jobs: list[Job]) -> list[int]:
    """How often each was taken from its slot."""
    with sqlite3.connect(it.path) as database:
        found = dict(database.execute("select id, preemptions from jobs"))
    database.close()
    return [found[job.id] for job in jobs]


def gave_way(it: World, jobs: list[Job]) -> list[Job]:
    """Those that were taken from their slots, and whose dispatcher has let go of them."""
    asked = [job for job, often in zip(jobs, preemptions(it, jobs), strict=True) if often]
    return [job for job in stored(it, asked) if job.fence > 1 or job.state is JobState.QUEUED]


async def test_a_paid_burst_takes_slots_and_gives_them_back(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(SLOTS), tiers=TIERS) as it:
        it.start()
        free = await drawing(it, "free", 8, passes=16)
        paid = submit(it, "pro", 2)

        await until(lambda: len(it.lane.leaving) == 2, "two renders are asked to leave")
        it.lane.replicas[0].gate.open()
        await all_end_as_if_undisturbed(it, free + paid)
        assert len(gave_way(it, free)) == 2, "no more than were needed"
        told = list(it.told)
        last = max(told.index((job.request.seed, 16)) for job in free)
        assert all(told.index((job.request.seed, 8)) < last for job in paid)


async def test_the_least_share_keeps_its_slots_and_nobody_yields_for_ever(tmp_path: Path) -> None:
    """A burst that never ends: free keeps what its share promises, and every render ends."""
    async with world(tmp_path, Replica(SLOTS), tiers=TIERS) as it:
        it.start()
        free = await drawing(it, "free", 8, passes=16)
        paid = submit(it, "pro", 20)
        await until(lambda: len(it.lane.leaving) == 3, "three of four are asked to leave")
        it.lane.replicas[0].gate.open()
        await until(lambda: any(job.ended for job in stored(it, free)), "a free one ends")
        assert not all(job.ended for job in stored(it, paid)), "while paid ones still wait"
        await all_end_as_if_undisturbed(it, free + paid)
        assert max(preemptions(it, free)) <= PREEMPTIONS_MAX
        assert set(preemptions(it, paid)) == {0}


async def test_two_dispatchers_clear_no_more_slots_than_are_needed(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(SLOTS), tiers=TIERS) as it:
        for _ in range(2):
            it.start()
        free = await drawing(it, "free", 12, passes=16)
        paid = submit(it, "pro", 1)
        await until(lambda: len(it.lane.leaving) == 1, "one render is asked to leave")
        it.lane.replicas[0].gate.open()
        await all_end_as_if_undisturbed(it, free + paid)
        assert sum(preemptions(it, free)) == 1


async def test_a_render_that_is_nearly_done_is_spared(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(SLOTS), tiers=TIERS) as it:
        running = it.start()
        free = await drawing(it, "free", SLOTS, passes=16, until_pass=13)
        (paid,) = submit(it, "pro", 1)
        await it.when(paid, lambda job: job.state is JobState.LEASED, "it is held")
        asked = running.ledger.asked
        await until(lambda: running.ledger.asked > asked + 2, "it has waited, and asked for a slot")
        it.lane.replicas[0].gate.open()
        await all_end_as_if_undisturbed(it, [*free, paid])
        assert running.dispatcher.held_jobs == 0
        assert gave_way(it, free) == []


async def test_a_decoder_that_cannot_be_asked_costs_the_pass_under_way(tmp_path: Path) -> None:
    """And not the slot: the stream is closed in the middle of a pass, which is drawn again."""
    async with world(tmp_path, Replica(SLOTS), tiers=TIERS) as it:
        it.lane.deaf = True
        it.start()
        free = await drawing(it, "free", SLOTS, passes=16)
        paid = submit(it, "pro", 1)
        await until(lambda: len(gave_way(it, free)) == 1, "one gave way while the pass was held")
        it.lane.replicas[0].gate.open()
        await all_end_as_if_undisturbed(it, free + paid)


async def test_who_waits_at_a_replica_waits_for_a_slot_too(tmp_path: Path) -> None:
    """A replica lets in more calls than it has slots: those are not in the ready queue."""
    async with world(tmp_path, Replica(SLOTS, SLOTS + 4), tiers=TIERS) as it:
        it.start()
        free = await drawing(it, "free", 8, passes=16)
        paid = submit(it, "pro", 1)
        await until(lambda: len(it.lane.leaving) == 1, "one render is asked to leave")
        it.lane.replicas[0].gate.open()
        await all_end_as_if_undisturbed(it, free + paid)


async def test_images_of_one_job_leave_together(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(SLOTS), tiers=TIERS) as it:
        it.start()
        free = await drawing(it, "free", 2, passes=16, n=2)
        paid = submit(it, "pro", 1)
        await until(lambda: len(it.lane.leaving) == 2, "both images of one are asked to leave")
        it.lane.replicas[0].gate.open()
        await all_end_as_if_undisturbed(it, free + paid)


async def test_an_image_that_waits_at_a_replica_is_preempted_like_one_in_the_ready_queue(
    tmp_path: Path,
) -> None:
    """Or it takes the slot that is cleared for somebody else, who has to ask again."""
    replica = Replica(SLOTS, SLOTS + 2, full_wait_seconds=PATIENCE_SECONDS)
    async with world(tmp_path, replica, tiers=TIERS) as it:
        it.start()
        free = await drawing(it, "free", 8, passes=16)
        await until(lambda: replica.reserved == SLOTS + 2, "two wait at the replica")
        (paid,) = submit(it, "pro", 1)
        await until(lambda: paid.id in {j.split("/")[0] for j in replica.ids}, "it is let in")
        replica.gate.open()
        await all_end_as_if_undisturbed(it, [*free, paid])
        assert len(it.lane.leaving) == 1, "one slot was needed, and one was cleared"


async def test_lines_of_batches_leave_their_slots_to_any_other_job(tmp_path: Path) -> None:
    """Also to one of the only tier, and although they are nearly done; no pass is drawn twice."""
    async with world(tmp_path, Replica(SLOTS), tiers={"free": Tier()}) as it:
        it.start()
        (replica,) = it.lane.replicas
        replica.gate.close()
        lines = [
            it.submit(tenant=f"batch {i}", seed=100 * i, passes=16, in_batch=True) for i in range(6)
        ]
        await until(lambda: replica.engine.running == SLOTS, "all slots are taken")
        replica.close_after |= {(job.request.seed, 13) for job in lines}
        replica.gate.open()
        await until(lambda: replica.gate.closed, "the passes are held")
        replica.close_after.clear()
        live = submit(it, "free", 3)
        await until(lambda: len(it.lane.leaving) == 3, "as many lines are asked to leave")
        replica.gate.open()
        await all_end_as_if_undisturbed(it, lines + live)
        assert len(gave_way(it, lines)) == 3


async def test_held_lines_of_batches_take_no_slot_that_is_cleared_for_another_job(
    tmp_path: Path,
) -> None:
    """Two lines are held at the decoder when three orders come: each has the slot that is cleared
    for it, and no line joins before them."""
    replica = Replica(SLOTS, SLOTS + 2, full_wait_seconds=PATIENCE_SECONDS)
    async with world(tmp_path, replica, tiers={"free": Tier()}) as it:
        it.start()
        replica.gate.close()
        lines = [
            it.submit(tenant=f"batch {i}", seed=100 * i, passes=16, in_batch=True) for i in range(9)
        ]
        await until(lambda: replica.reserved == SLOTS + 2, "two lines are held")
        live = submit(it, "free", 3, passes=4)
        await until(lambda: len(it.lane.leaving) == 3, "as many lines are asked to leave")
        replica.gate.open()
        await all_end_as_if_undisturbed(it, lines + live)
        assert len(it.lane.leaving) == 3, "as many slots as were needed"
