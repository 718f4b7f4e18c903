"""Waiting for jobs: one loop a process reads all watched jobs in one query and tells who waits.

Level-triggered: a watcher sees the newest state, never a list of events, so nothing can be missed.
It also renews `watched_until` of synchronous jobs, and tells the ledger when a client has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator

from jobs.group_commit import AsyncLedger
from jobs.job import Job
from jobs.ledger import LedgerError
from jobs.watching import renewal_seconds, term_seconds

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""The safety poll, should a wake-up be missed."""
RETRY_SECONDS = 0.5
ANSWERS_SECONDS = 0.25
PAUSE_PER_QUERY = 2.0
"""After each query the loop rests this many times as long: watching costs a third of one thread."""
PAUSE_PER_WATCHER_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.1
"""And at least so long for each watcher: one sees every pass at once, thousands look ten times a
second."""


class _Watcher:
    """One open request. `latest` is the newest state; `fresh` says that it was not seen yet.
    renewed_at: on this process's clock; None: nothing is to be renewed. until: what its own last
    renewal made of `watched_until`; None: it has not renewed the watch yet."""

    def __init__(self, job: Job, renewed_at: float | None, until: float | None) -> None:
        self.latest = job
        self.fresh = asyncio.Event()
        self.renewed_at = renewed_at
        self.until = until

    @property
    def keeps_alive(self) -> bool:
        return self.renewed_at is not None and not self.latest.ended

    def tell(self, job: Job) -> None:
        if job != self.latest:
            self.latest = job
            self.fresh.set()


class JobWatch:
    """All open requests of one gateway process."""

    def __init__(self, ledger: AsyncLedger, grace_seconds: float) -> None:
        self._ledger = ledger
        self._grace_seconds = grace_seconds
        self._watchers: set[_Watcher] = set()
        self._answered: set[str] = set()
        self._left: dict[str, float] = {}
        self._closed = False
        self._answers_written_at = float("-inf")
        self._loop: asyncio.Task[None] | None = None

    async def snapshots(
        self, job: Job, *, renew_now: bool = False, tick_seconds: float | None = None
    ) -> AsyncGenerator[Job]:
        """The job as it is, then after every change, until it has ended.

        Keeps the job watched if it is a synchronous one; `renew_now` when it was not submitted just
        now, and its watch may be about to lapse. With `tick_seconds` it also yields when nothing
        changed.
        """
        until = None if renew_now else job.watched_until
        watcher = _Watcher(job, self._first_renewal(job, renew_now), until)
        self._watchers.add(watcher)
        self._start()
        try:
            yield job
            while not job.ended:
                try:
                    async with asyncio.timeout(tick_seconds):
                        await watcher.fresh.wait()
                except TimeoutError:
                    pass
                watcher.fresh.clear()
                job = watcher.latest
                yield job
        finally:
            self._watchers.discard(watcher)
            self._leave(watcher)

    async def ended(self, job: Job) -> Job:
        """The job once it has ended."""
        snapshots = self.snapshots(job)
        try:
            async for state in snapshots:
                job = state
        finally:
            await snapshots.aclose()
        return job

    async def answered(self, job_id: str) -> None:
        """Its client has the answer: a later request with the same body is a new one. Written
        down soon, together with others."""
        self._answered.add(job_id)
        self._start()

    async def close(self) -> None:
        """Stop the loop; watchers see nothing new."""
        self._closed = True
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait({self._loop})

    def _first_renewal(self, job: Job, renew_now: bool) -> float | None:
        if job.watched_until is None or job.ended:
            return None
        return float("-inf") if renew_now else time.monotonic()

    def _leave(self, watcher: _Watcher) -> None:
        if watcher.keeps_alive and watcher.until is not None:
            self._left[watcher.latest.id] = watcher.until
            self._start()

    def _start(self) -> None:
        if not self._closed and (self._loop is None or self._loop.done()):
            self._loop = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Ends by itself when nobody waits; the next watcher starts it again."""
        while self._watchers or self._answered or self._left:
            try:
                seen = await self._ledger.version()
                seconds = await self._look()
                await self._renew()
                await self._write_left()
                await self._write_answers()
                await asyncio.sleep(self._pause_seconds(seconds))
                await self._ledger.changed(seen, POLL_SECONDS)
            except LedgerError as error:
                log.warning("the ledger is away, watchers go on waiting: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("the watch loop failed, trying again")
                await asyncio.sleep(RETRY_SECONDS)

    def _pause_seconds(self, query_seconds: float) -> float:
        crowd = min(LONGEST_PAUSE_SECONDS, PAUSE_PER_WATCHER_SECONDS * len(self._watchers))
        return max(crowd, PAUSE_PER_QUERY * query_seconds)

    async def _look(self) -> float:
        """Read every watched job at once; how long that took in seconds."""
        start = time.monotonic()
        ids = {watcher.latest.id for watcher in self._watchers if not watcher.latest.ended}
        jobs = {job.id: job for job in await self._ledger.get_many(sorted(ids))} if ids else {}
        for watcher in list(self._watchers):
            if (job := jobs.get(watcher.latest.id)) is not None:
                watcher.tell(job)
        return time.monotonic() - start

    async def _renew(self) -> None:
        now = time.monotonic()
        due = [
            watcher
            for watcher in self._watchers
            if watcher.keeps_alive
            and watcher.renewed_at is not None
            and now - watcher.renewed_at > renewal_seconds(self._grace_seconds)
        ]
        if due:
            ids = sorted({watcher.latest.id for watcher in due})
            until = await self._ledger.watch(ids, term_seconds(self._grace_seconds))
            for watcher in due:
                watcher.renewed_at, watcher.until = now, until

    async def _write_left(self) -> None:
        """Of clients that have left, while no other one waits here for the same job. Kept until it
        is written."""
        told = dict(self._left)
        waited_for = {watcher.latest.id for watcher in self._watchers if watcher.keeps_alive}
        left = {job_id: until for job_id, until in told.items() if job_id not in waited_for}
        if left:
            await self._ledger.left(left, self._grace_seconds)
        for job_id, until in told.items():
            if self._left.get(job_id) == until:
                del self._left[job_id]

    async def _write_answers(self) -> None:
        now = time.monotonic()
        if self._answered and now - self._answers_written_at > ANSWERS_SECONDS:
            self._answers_written_at = now
            answered, self._answered = self._answered, set()
            await self._ledger.answered(sorted(answered))
