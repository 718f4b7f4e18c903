"""What dispatchers write of an image's life, and what it cost: over preemptions, hand-overs and
deaths, with what earlier holders wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.job import Job
from jobs.life import MOST_HOLDS, GivenSlot, Hold, pack, unpack
from jobs.usage import UsageQuery
from serve_app.wire.timeline import timeline
from tests.dispatch.dispatch_kit import World, world
from tests.dispatch.dispatch_stages import Replica, until
from tests.dispatch.test_giving_way import TIERS, drawing, submit

PLAIN = ["accepted", "claimed", "encoded", "slot", "first_pass", "last_pass", "screened", "filed",
         "stored", "ended"]  # fmt: skip


def events(job: Job) -> list[str]:
    """In the order of the list, but for what happens in the same millisecond."""
    return [str(event["event"]) for event in timeline(job)]


def gpu_seconds(it: World) -> float:
    (sums,) = it.sql.usage(UsageQuery(0.0, 4e9))
    return sums.used.gpu_seconds


async def test_a_plain_life(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(2)) as it:
        it.start()
        job = await it.ended(it.submit(n=2))
        assert sorted(events(job)) == sorted(PLAIN + PLAIN[3:9])
        holds = [unpack(render.life) for render in job.renders]
        assert [(hold.worker, hold.lease, hold.passes) for (hold,) in holds] == [("w0", 1, 8)] * 2
        assert all(render.gpu_seconds for render in job.renders)
        spent = sum(render.gpu_seconds or 0.0 for render in job.renders)
        assert gpu_seconds(it) == pytest.approx(spent)


async def test_a_preempted_image_keeps_what_it_did_before(tmp_path: Path) -> None:
    async with world(tmp_path, Replica(4), tiers=TIERS) as it:
        it.start()
        free = await drawing(it, "free", 4, passes=16)
        paid = submit(it, "pro", 2)
        await until(lambda: bool(it.lane.leaving), "renders are asked to leave")
        it.lane.replicas[0].gate.open()
        ended = [await it.ended(job) for job in (*free, *paid)]
        preempted = [job for job in ended if job.preemptions]
        assert preempted
        for job in preempted:
            first, *_, last = unpack(job.renders[0].life)
            assert (first.preempted, last.left, last.passes) == (True, None, 16)
            assert [slot.from_pass for slot in last.slots] == [first.passes]
            assert "preempted" in events(job)
        spent = sum(job.renders[0].gpu_seconds or 0.0 for job in ended)
        assert gpu_seconds(it) == pytest.approx(spent)


async def test_a_dead_dispatchers_part_is_not_lost(tmp_path: Path) -> None:
    replica, other = Replica(1), Replica(1)
    async with world(tmp_path, replica) as it:
        job = it.submit()
        replica.close_after.add((job.request.seed, 3))
        doomed = it.start()
        before = (await it.at_pass(job, 3)).renders[0]
        await doomed.kill()
        it.lapse()
        it.start(other)
        ended = await it.ended(job)
        render = ended.renders[0]
        one, two = unpack(render.life)
        assert ([one.worker, two.worker], one.left) == (["w0", "w1"], None)
        assert two.slots[0].from_pass == 3
        assert (render.gpu_seconds or 0.0) > (before.gpu_seconds or 0.0) > 0.0
        assert "lost" in events(ended)


async def test_a_dispatcher_that_stops_hands_on(tmp_path: Path) -> None:
    replica, other = Replica(1), Replica(1)
    async with world(tmp_path, replica) as it:
        job = it.submit()
        replica.close_after.add((job.request.seed, 3))
        first = it.start(last_pass_seconds=0.0)
        await it.at_pass(job, 3)
        await first.stop()
        it.start(other)
        ended = await it.ended(job)
        assert "handed_on" in events(ended)
        assert [hold.passes for hold in unpack(ended.renders[0].life)] == [3, 8]


def test_a_life_stays_short_and_readable() -> None:
    slots = tuple(GivenSlot(float(i), "replica", i) for i in range(100))
    many = tuple(Hold("w", lease, 1.23456, slots=slots) for lease in range(1, 100))
    kept = unpack(pack(many))
    assert len(kept) == MOST_HOLDS
    assert [kept[0].lease, kept[1].lease, kept[-1].lease] == [1, 85, 99]
    assert (kept[0].claimed, kept[0].slots[0].at, kept[0].slots[-1].at) == (1.235, 0.0, 99.0)
    assert len(pack(many)) < 8_000
    newer = '[{"worker": "w", "lease": 1, "claimed": 2.0, "mood": "gloomy"}]'
    assert unpack(newer) == (Hold("w", 1, 2.0),)
    assert unpack(None) == unpack("{") == unpack('[{"lease": 1}]') == ()
