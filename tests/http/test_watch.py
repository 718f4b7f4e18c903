"""Waiting for jobs: nothing is missed, one query serves all, and the watch is kept while somebody
waits and only then."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import pytest

from jobs.client.async_ledger import AsyncLedger
from jobs.depth import QueueEstimate
from jobs.job import Job, JobState, RenderState
from jobs.lease import Outcome
from jobs.ledger_errors import LedgerUnavailable
from jobs.request import ImageRequest
from serve_app.delivery import watch as module
from serve_app.delivery.watch import LONGEST_PAUSE_SECONDS, JobWatch
from tests.stages.ledger_kit import Database

FAILED = Outcome(RenderState.FAILED, error="enough")


def request(number: int, *, watched: bool = True) -> ImageRequest:
    return ImageRequest(
        lane="l", tenant="t", tier="free", model="m", prompt=str(number), n=1, width=64, height=64,
        quality="low", passes=8, guidance=3.0, seed=1, watched=watched,
    )  # fmt: skip


class CountedLedger(AsyncLedger):
    """Counts the queries of the watch loop, and fails as many of them as it is told to."""

    looks = 0
    jobs_read = 0
    mute = False
    failures = 0
    estimate_reads = 0
    estimate_failures = 0

    async def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        self.looks += 1
        self.jobs_read += len(job_ids)
        if self.failures > 0:
            self.failures -= 1
            raise LedgerUnavailable("away")
        return await super().get_many(job_ids)

    async def moved(
        self, lanes: Sequence[str], since: float | None
    ) -> tuple[frozenset[str], float]:
        found, now = await super().moved(lanes, since)
        return (frozenset[str]() if self.mute else found), now

    async def estimates(self, job_ids: Sequence[str]) -> dict[str, QueueEstimate]:
        self.estimate_reads += 1
        if self.estimate_failures > 0:
            self.estimate_failures -= 1
            raise LedgerUnavailable("away")
        return await super().estimates(job_ids)


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[CountedLedger]:
    made = CountedLedger(database.open())
    yield made
    await asyncio.to_thread(made.close)


@pytest.fixture(params=["all at once", "in turn"])
async def watch(
    ledger: CountedLedger, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[JobWatch]:
    """Whatever is promised holds for few jobs and for very many."""
    if request.param == "in turn":
        monkeypatch.setattr(module, "AT_ONCE", 1)
    made = JobWatch(ledger, grace_seconds=120)
    yield made
    await made.close()


async def submitted(ledger: AsyncLedger, number: int, *, watched: bool = True) -> Job:
    return (await ledger.submit(request(number, watched=watched))).job


async def last_of(states: AsyncIterator[Job]) -> Job:
    return [state async for state in states][-1]


async def end_all(ledger: AsyncLedger) -> int:
    jobs = await ledger.claim("l", "w", 100, 60)
    for job in jobs:
        await ledger.finish_render(job.id, job.fence, 0, FAILED)
    return len(jobs)


async def test_everybody_sees_the_end_and_one_query_serves_them_all(
    ledger: CountedLedger, watch: JobWatch
) -> None:
    jobs = [await submitted(ledger, number) for number in range(20)]
    waiting = [asyncio.create_task(watch.ended(job)) for job in jobs for _ in range(5)]
    await asyncio.sleep(0)
    assert await end_all(ledger) == 20
    ended = await asyncio.gather(*waiting)
    assert [job.state for job in ended] == [JobState.FAILED] * 100
    assert ledger.looks < 100, "a query for each of them would be 100 or more"


async def test_thousands_are_looked_at_ten_times_a_second(
    ledger: CountedLedger, watch: JobWatch
) -> None:
    """However often the ledger is written to; each look is one query. They are of many tenants,
    since those of one are told a few at a time."""
    wishes = [replace(request(number), tenant=f"t{number}") for number in range(100)]
    jobs = [found.job for found in await asyncio.gather(*map(ledger.submit, wishes))]
    waiting = [asyncio.create_task(watch.ended(job)) for job in jobs for _ in range(20)]
    began = asyncio.get_running_loop().time()
    for number in range(100):
        await submitted(ledger, 100 + number)
    elapsed = asyncio.get_running_loop().time() - began
    assert ledger.looks <= 2 + elapsed / LONGEST_PAUSE_SECONDS
    await asyncio.gather(*(ledger.cancel(job.id) for job in jobs))
    assert {ended.state for ended in await asyncio.gather(*waiting)} == {JobState.CANCELLED}


async def watched_by_many(
    ledger: CountedLedger, watch: JobWatch, monkeypatch: pytest.MonkeyPatch, count: int
) -> tuple[list[Job], list[asyncio.Task[Job]]]:
    """Jobs of as many tenants, each with a watcher, of which two are read in a turn; all were."""
    monkeypatch.setattr(module, "AT_ONCE", 2)
    wishes = [replace(request(number), tenant=f"t{number}") for number in range(count)]
    jobs = [found.job for found in await asyncio.gather(*map(ledger.submit, wishes))]
    waiting = [asyncio.create_task(watch.ended(job)) for job in jobs]
    await looked(ledger, until=lambda: ledger.jobs_read >= count + 2)
    return jobs, waiting


async def test_of_many_those_are_read_that_are_held_or_have_ended(
    ledger: CountedLedger, watch: JobWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However each ended, it is told without its turn; and the others are not read."""
    jobs, waiting = await watched_by_many(ledger, watch, monkeypatch, 20)
    by_id = {job.id: task for job, task in zip(jobs, waiting, strict=True)}
    monkeypatch.setattr(module, "AT_ONCE", 0)  # no job has a turn
    looks, read = ledger.looks, ledger.jobs_read
    held = await ledger.claim("l", "w", 3, 60)
    refused = Outcome(RenderState.BLOCKED, categories=("weapons",), stage="input")
    drawn = Outcome(RenderState.SUCCEEDED, blob="b", checkpoint=b"c")
    for job, outcome in zip(held, (FAILED, refused, drawn), strict=True):
        await ledger.finish_render(job.id, job.fence, 0, outcome)
    queued = next(job for job in jobs if job.id not in {one.id for one in held})
    await ledger.cancel(queued.id)
    ids = [job.id for job in (*held, queued)]
    ends = await asyncio.gather(*(by_id[job_id] for job_id in ids))
    assert [job.state for job in ends] == [
        JobState.FAILED, JobState.BLOCKED, JobState.SUCCEEDED, JobState.CANCELLED
    ]  # fmt: skip
    assert ledger.jobs_read - read <= 2 + len(ids) * (ledger.looks - looks)
    for task in waiting:
        task.cancel()


async def test_what_is_overlooked_is_found_in_turn(
    ledger: CountedLedger, watch: JobWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, waiting = await watched_by_many(ledger, watch, monkeypatch, 12)
    ledger.mute = True
    await ledger.cancel(jobs[7].id)
    assert (await waiting[7]).state is JobState.CANCELLED
    for task in waiting:
        task.cancel()


async def test_an_ended_job_needs_no_waiting(ledger: CountedLedger, watch: JobWatch) -> None:
    job = await submitted(ledger, 1)
    await end_all(ledger)
    ended = await ledger.get(job.id)
    assert ended is not None
    assert await watch.ended(ended) == ended
    assert [state async for state in watch.snapshots(ended)] == [ended]


async def test_how_a_job_stands_is_told_to_all_of_its_watchers_when_it_is_news(
    ledger: CountedLedger, watch: JobWatch
) -> None:
    first, job = [await submitted(ledger, number) for number in range(2)]
    streams = [watch.views(job) for _ in range(50)]
    views = [await anext(stream) for stream in streams]
    assert {view.estimate.position for view in views} == {1}
    assert all(view is views[0] for view in views), "encoded once for all"
    await ledger.cancel(first.id)
    views = [await anext(stream) for stream in streams]
    assert {(view.job.state, view.estimate.position) for view in views} == {(JobState.QUEUED, 0)}
    assert ledger.estimate_reads < 50, "one for each stream would be more"
    await ledger.cancel(job.id)
    for stream in streams:
        states = [view.job.state async for view in stream]
        assert states[-1] is JobState.CANCELLED


async def test_who_waits_for_the_end_asks_for_no_estimate(
    ledger: CountedLedger, watch: JobWatch
) -> None:
    job = await submitted(ledger, 1)
    waiting = asyncio.create_task(watch.ended(job))
    await asyncio.sleep(0)
    await end_all(ledger)
    assert (await waiting).state is JobState.FAILED
    assert ledger.estimate_reads == 0


async def test_a_stream_goes_on_while_nobody_can_say_how_its_job_stands(
    ledger: CountedLedger, watch: JobWatch
) -> None:
    ledger.estimate_failures = 10**6
    job = await submitted(ledger, 1)
    stream = watch.views(job)
    assert (await anext(stream)).estimate == QueueEstimate()
    await end_all(ledger)
    states = [view.job.state async for view in stream]
    assert states[-1] is JobState.FAILED


async def test_a_ledger_that_is_away_is_waited_for(
    ledger: CountedLedger, watch: JobWatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.failures = 2
    job = await submitted(ledger, 1)
    waiting = asyncio.create_task(watch.ended(job))
    await end_all(ledger)
    assert (await waiting).state is JobState.FAILED
    assert "watchers go on waiting" in caplog.text


async def test_a_watch_is_renewed_while_somebody_waits(database: Database) -> None:
    ledger = AsyncLedger(database.open(watch_grace_seconds=0.2))
    watch = JobWatch(ledger, grace_seconds=0.2)
    job = await submitted(ledger, 1)
    waiting = asyncio.create_task(watch.ended(job))
    first = job.watched_until
    renewed = [first]
    while len(set(renewed)) < 4:
        found = await ledger.get(job.id)
        assert found is not None
        renewed.append(found.watched_until)
        await ledger.changed(await ledger.version(), 0.05)
    waiting.cancel()
    await watch.close()
    await asyncio.to_thread(ledger.close)


async def test_a_reattached_watch_is_renewed_at_once_and_an_async_job_never(
    ledger: CountedLedger, watch: JobWatch
) -> None:
    old = await submitted(ledger, 1)
    unwatched = await submitted(ledger, 2, watched=False)
    views = [watch.snapshots(job, renew_now=True) for job in (old, unwatched)]
    waiting = [asyncio.create_task(last_of(view)) for view in views]
    found: Job | None = old
    while found is not None and found.watched_until == old.watched_until:
        await ledger.changed(await ledger.version(), 0.05)
        found = await ledger.get(old.id)
    still = await ledger.get(unwatched.id)
    assert still is not None
    assert still.watched_until is None
    for task in waiting:
        task.cancel()


async def watched_until(ledger: AsyncLedger, job: Job) -> float:
    found = await ledger.get(job.id)
    assert found is not None
    assert found.watched_until is not None
    return found.watched_until


async def test_a_client_that_leaves_is_told_of(ledger: CountedLedger, watch: JobWatch) -> None:
    job = await submitted(ledger, 1)
    first, second = (asyncio.create_task(watch.ended(job)) for _ in range(2))
    await asyncio.sleep(0)
    await cancelled(first)
    other = await submitted(ledger, 2)
    await cancelled(asyncio.create_task(watch.ended(other)))
    await until_told(ledger, other)
    assert await watched_until(ledger, job) == job.watched_until, "the second one waits on"
    await cancelled(second)
    await until_told(ledger, job)


async def cancelled(waiting: asyncio.Task[Job]) -> None:
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})


async def until_told(ledger: AsyncLedger, job: Job) -> None:
    """Of a grace of 120 s out of 600, and what this took."""
    assert job.watched_until is not None
    while job.watched_until - await watched_until(ledger, job) < 400:
        await ledger.changed(await ledger.version(), 0.05)


async def test_what_is_left_is_told_after_an_outage(ledger: CountedLedger, watch: JobWatch) -> None:
    job, staying = await submitted(ledger, 1), await submitted(ledger, 2)
    ledger.failures = 2
    waiting = asyncio.create_task(watch.ended(staying))
    await asyncio.sleep(0)
    await cancelled(asyncio.create_task(watch.ended(job)))
    await until_told(ledger, job)
    await cancelled(waiting)


async def test_many_watchers_of_one_tenant_are_told_a_few_at_a_time(
    ledger: CountedLedger, watch: JobWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them in the end, and another tenant's client does not wait for them."""
    monkeypatch.setattr(module, "MOST_WOKEN", 3)
    shared = (await ledger.submit(request(1))).job
    other = (await ledger.submit(replace(request(2), tenant="other"))).job
    told: list[tuple[str, int]] = []

    async def wait_for(job: Job) -> None:
        await watch.ended(job)
        told.append((job.request.tenant, ledger.looks))

    waiting = [asyncio.create_task(wait_for(job)) for job in (*[shared] * 10, other)]
    await asyncio.sleep(0)
    for job in await ledger.claim("l", "w", 2, 60):
        await ledger.finish_render(job.id, job.fence, 0, FAILED)
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)
    looks = Counter(look for tenant, look in told if tenant == "t")
    assert max(looks.values()) <= 3
    assert looks.total() == 10
    (others,) = [look for tenant, look in told if tenant == "other"]
    assert others <= min(looks) + 1 < max(looks)


async def looked(ledger: CountedLedger, *, until: Callable[[], bool]) -> None:
    """Once this holds; asked whenever something is written, and now and then."""
    while not until():
        await ledger.changed(await ledger.version(), 0.02)


async def test_many_watchers_hear_of_places_in_turn_and_of_jobs_without_waiting(
    ledger: CountedLedger, watch: JobWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places are told to few of a tenant's streams in a while; the end of a job to all."""
    monkeypatch.setattr(module, "ESTIMATES_PER_SECOND", 0.01)
    monkeypatch.setattr(module, "ESTIMATE_SECONDS", 0.0)
    before = [(await ledger.submit(request(number))).job for number in range(2)]
    job = (await ledger.submit(request(9))).job
    watchers = module.MOST_WOKEN + 8
    heard: Counter[int] = Counter()

    async def listen(number: int) -> None:
        async for _ in watch.views(job):
            heard[number] += 1

    listening = [asyncio.create_task(listen(number)) for number in range(watchers)]
    async with asyncio.timeout(60):
        await looked(ledger, until=lambda: len(heard) == watchers)
        await ledger.cancel(before[0].id)
        await looked(ledger, until=lambda: heard.total() > watchers)
        await ledger.cancel(before[1].id)
        looks = ledger.looks
        await looked(ledger, until=lambda: ledger.looks >= looks + 4)
        assert heard.total() == watchers + module.MOST_WOKEN
        assert max(heard.values()) == 2
        await ledger.cancel(job.id)
        await asyncio.gather(*listening)
    assert min(heard.values()) >= 2
