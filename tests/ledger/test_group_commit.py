"""Many callers on many event loops, one ledger: shared commits, separate fates."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from jobs.client.async_ledger import AsyncLedger
from jobs.client.ledger_thread import Call, LedgerThread
from jobs.job import Job, JobState
from jobs.ledger import Submission
from jobs.ledger_errors import LeaseLost, LedgerUnavailable, QuotaExceeded
from jobs.tiers import Tier
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Database,
    beat,
    final_beat,
    full_disk,
    picture,
    sqlite,
    wish,
)


@asynccontextmanager
async def opened(database: Database, **arguments: object) -> AsyncIterator[AsyncLedger]:
    ledger = AsyncLedger(database.open(**arguments))
    try:
        yield ledger
    finally:
        ledger.close()


async def test_the_same_verbs_awaited(database: Database) -> None:
    async with opened(database) as ledger:
        submitted = (await ledger.submit(wish())).job
        assert (await ledger.estimate(submitted.id)).position == 0
        (job,) = await ledger.claim("chat", "w", 4, LEASE_SECONDS)
        assert (await ledger.depth("chat")).active_jobs == 1
        (renewal,) = await ledger.renew([beat(job, 2)], LEASE_SECONDS)
        assert renewal.held
        await ledger.watch([job.id], 120.0)
        await ledger.release(job.id, job.fence)
        (again,) = await ledger.claim("chat", "w", 4, LEASE_SECONDS)
        await ledger.renew([final_beat(again)], LEASE_SECONDS)
        done = await ledger.finish_render(job.id, again.fence, 0, picture())
        assert done.state is JobState.SUCCEEDED
        await ledger.answered([job.id])
        assert await ledger.get(job.id) == done
        assert await ledger.get("unknown") is None
        assert await ledger.get_many([job.id]) == [done] == await ledger.recent("ada", 5)
        assert await ledger.cancel(job.id) == done
        assert await ledger.expire() == 0


async def test_a_call_that_fails_undoes_nothing_of_its_neighbours(database: Database) -> None:
    async with opened(database, tiers={"free": Tier(images_per_day=5)}) as ledger:
        wishes = [wish(n=2) for _ in range(4)] + [wish(prompt="\ud83e", tenant="bob")]
        others = [wish(tenant=f"t{i}") for i in range(8)]
        results = await asyncio.gather(
            *(ledger.submit(w) for w in wishes + others),
            ledger.finish_render("unknown", 1, 0, picture()),
            return_exceptions=True,
        )
        kinds = [type(r) for r in results]
        assert kinds[:5] == [Submission, Submission, QuotaExceeded, QuotaExceeded, ValueError]
        assert kinds[5:] == [Submission] * 8 + [LeaseLost]
        assert (await ledger.depth("chat")).queued_jobs == 10
        accepted = [r.job.id for r in results if isinstance(r, Submission)]
        assert len(await ledger.get_many(accepted)) == 10


def test_neighbours_share_one_transaction(database: Database) -> None:
    """A verb that writes before it raises: exactly its own writes are undone."""
    ledger = database.open()

    def write_then_raise() -> None:
        ledger.submit(wish(tenant="undone"))
        raise LeaseLost("on purpose")

    before = ledger.version()
    first, failed, last = ledger.together(
        [lambda: ledger.submit(wish()), write_then_raise, lambda: ledger.submit(wish())]
    )
    assert isinstance(failed, LeaseLost)
    assert ledger.version() == before + 1, "one commit"
    assert [type(r) for r in (first, last)] == [Submission, Submission]
    assert ledger.recent("undone", 5) == []
    assert len(ledger.recent("ada", 5)) == 2


async def test_a_full_disk_fails_the_whole_batch_and_accepts_nothing(tmp_path: Path) -> None:
    async with opened(sqlite(tmp_path)) as ledger:
        await ledger.submit(wish())
        with full_disk(tmp_path):
            results = await asyncio.gather(
                *(ledger.submit(wish(prompt="x" * 300_000)) for _ in range(8)),
                return_exceptions=True,
            )
        accepted = [r for r in results if isinstance(r, Submission)]
        assert all(isinstance(r, Submission | LedgerUnavailable) for r in results)
        assert len(accepted) < 8
        assert (await ledger.depth("chat")).queued_jobs == 1 + len(accepted)
        await ledger.submit(wish())


def test_callers_on_several_event_loops(database: Database) -> None:
    ledger = AsyncLedger(database.open())
    jobs: list[Job] = []

    async def ask() -> None:
        for submission in await asyncio.gather(*(ledger.submit(wish()) for _ in range(10))):
            jobs.append(submission.job)  # noqa: PERF401 - one list for all threads

    threads = [threading.Thread(target=lambda: asyncio.run(ask())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    assert len({job.id for job in jobs}) == 40


async def test_a_caller_who_left_does_not_undo_its_call(database: Database) -> None:
    async with opened(database) as ledger:
        asked = asyncio.ensure_future(ledger.submit(wish()))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await ledger.submit(wish(tenant="bob"))
        assert len(await ledger.recent("ada", 5)) == 1


async def test_a_lone_call_is_alone_and_company_is_gathered() -> None:
    sizes: list[int] = []
    started, hold = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def run(batch: Sequence[Call]) -> Sequence[object]:
        sizes.append(len(batch))
        loop.call_soon_threadsafe(started.set)
        hold.wait()
        return [call.run() for call in batch]

    thread = LedgerThread("test", run, gather=True)
    first = asyncio.ensure_future(thread.ask(lambda: "first"))
    await started.wait()
    rest = [asyncio.ensure_future(thread.ask(partial(int, i))) for i in range(20)]
    await asyncio.sleep(0)  # each has put its call
    hold.set()
    assert await first == "first"
    assert await asyncio.gather(*rest) == list(range(20))
    assert sizes == [1, 20], "what arrived during a commit shares the next one"
    thread.close()


async def test_after_close_nothing_is_accepted(database: Database) -> None:
    ledger = AsyncLedger(database.open())
    asked = [asyncio.ensure_future(ledger.submit(wish())) for _ in range(10)]
    await asyncio.sleep(0)
    ledger.close()
    assert len({s.job.id for s in await asyncio.gather(*asked)}) == 10, "what had arrived is done"
    with pytest.raises(LedgerUnavailable, match="closed"):
        await ledger.submit(wish())
    ledger.close()


async def test_waiters_wake_for_everybodys_writes(database: Database) -> None:
    elsewhere = database.open()
    async with opened(database) as ledger:
        seen = await ledger.version()
        waiting = [asyncio.ensure_future(ledger.changed(seen, 60.0)) for _ in range(50)]
        elsewhere.submit(wish())
        versions = set(await asyncio.gather(*waiting))
        assert len(versions) == 1
        assert versions != {seen}


async def test_a_write_between_reading_and_waiting_is_not_missed(database: Database) -> None:
    async with opened(database) as ledger:
        seen = await ledger.version()
        await ledger.submit(wish())
        assert await ledger.changed(seen, 60.0) != seen


async def test_waiting_ends_with_its_time(database: Database) -> None:
    async with opened(database) as ledger:
        seen = await ledger.version()
        async with asyncio.timeout(30):
            await ledger.changed(seen, 0.03)


async def test_waiting_ends_when_the_ledger_closes(database: Database) -> None:
    ledger = AsyncLedger(database.open())
    seen = await ledger.version()
    waiting = asyncio.ensure_future(ledger.changed(seen, 60.0))
    await asyncio.sleep(0.02)
    await asyncio.get_running_loop().run_in_executor(None, ledger.close)
    await waiting
