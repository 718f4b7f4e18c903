"""Waiting for jobs: one loop a process reads all watched jobs in one query and tells watchers.

Level-triggered: a watcher sees the newest state, never a list of events, so nothing can be missed.
The same loop reads how the jobs stand, once a second in one call; a watcher hears of it only when
that is news. It also renews `watched_until` of synchronous jobs, and tells the ledger when a client
has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job
from jobs.ledger import LedgerError, LedgerUnavailable, Outlook
from jobs.policy.watch_deadline import renewal_seconds, term_seconds
from serve_app.delivery.job_view import UNKNOWN, Sight

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""The safety poll, should a wake-up be missed."""
RETRY_SECONDS = 0.5
ANSWERS_SECONDS = 0.25
PAUSE_PER_QUERY = 2.0
"""After each query the loop rests this many times as long: watching costs a third of one thread."""
MOST_TOLD = 12
"""Watchers of one tenant that are woken at a time: a thousand of one job write no thousand answers
in one turn of the event loop."""
PAUSE_PER_WATCHER_SECONDS = 0.002
OUTLOOK_SECONDS = 1.0
"""How often place and ETA of the jobs are looked up while they stay in their states."""
LONGEST_PAUSE_SECONDS = 0.1
"""And at least so long for each watcher: one sees every pass at once, thousands look ten times a
second."""


class _Watcher:
    """One open request. `sight` is the newest; `fresh` says that it was not seen yet. ahead:
    whether it wants to hear of the outlook, too. renewed_at: on this process's clock; None: nothing
    is to be renewed. until: what its own last renewal made of `watched_until`; None: it has not
    renewed the watch yet."""

    def __init__(
        self, sight: Sight, renewed_at: float | None, until: float | None, *, ahead: bool
    ) -> None:
        self.sight = sight
        self.fresh = asyncio.Event()
        self.renewed_at = renewed_at
        self.until = until
        self.ahead = ahead

    @property
    def keeps_alive(self) -> bool:
        return self.renewed_at is not None and not self.job.ended

    @property
    def job(self) -> Job:
        """As it is known here."""
        return self.sight.job

    def tell(self, sight: Sight) -> bool:
        """Wakes the watcher only for what is news to it; says whether it did."""
        before, self.sight = self.sight, sight
        news = sight is not before and sight.is_news(before, ahead=self.ahead)
        if news:
            self.fresh.set()
        return news


class JobWatch:
    """All open requests of one gateway process."""

    def __init__(self, ledger: AsyncLedger, grace_seconds: float) -> None:
        self._ledger = ledger
        self._grace_seconds = grace_seconds
        self._watchers: dict[_Watcher, None] = {}  # those that were told longest ago first
        self._behind = False
        self._sights: dict[str, Sight] = {}
        self._looked_ahead_at = float("-inf")
        self._answered: set[str] = set()
        self._left: dict[str, float] = {}
        self._closed = False
        self._answers_written_at = float("-inf")
        self._loop: asyncio.Task[None] | None = None

    async def snapshots(self, job: Job, *, renew_now: bool = False) -> AsyncGenerator[Job]:
        """The job as it is, then after every change, until it has ended.

        Keeps the job watched if it is a synchronous one; `renew_now` when it was not submitted just
        now, and its watch may be about to lapse.
        """
        sights = self._told(Sight(job, UNKNOWN, time.monotonic()), renew_now, ahead=False)
        async with aclosing(sights):
            async for sight in sights:
                yield sight.job

    async def sights(self, job: Job, *, renew_now: bool = False) -> AsyncGenerator[Sight]:
        """As `snapshots`, with how the job stands; also when that is news. All watchers of a job
        are given the same object."""
        sight = self._sights.get(job.id)
        if sight is None or sight.job != job:
            outlooks = await self._outlooks([job])
            sight = Sight(job, outlooks.get(job.id, UNKNOWN), time.monotonic())
        async with aclosing(self._told(sight, renew_now, ahead=True)) as sights:
            async for sight in sights:
                yield sight

    async def _told(self, sight: Sight, renew_now: bool, *, ahead: bool) -> AsyncGenerator[Sight]:
        until = None if renew_now else sight.job.watched_until
        renewed_at = self._first_renewal(sight.job, renew_now)
        watcher = _Watcher(sight, renewed_at, until, ahead=ahead)
        self._watchers[watcher] = None
        if ahead:
            self._sights.setdefault(sight.job.id, sight)
        self._start()
        try:
            yield sight
            while not sight.job.ended:
                await watcher.fresh.wait()
                watcher.fresh.clear()
                sight = watcher.sight
                yield sight
        finally:
            self._watchers.pop(watcher, None)
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
            self._left[watcher.job.id] = watcher.until
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
                if not self._behind:
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
        asked = [watcher for watcher in self._watchers if not watcher.job.ended]
        ids = {watcher.job.id for watcher in asked}
        jobs = await self._ledger.get_many(sorted(ids)) if ids else []
        await self._see(jobs, {watcher.job.id for watcher in asked if watcher.ahead})
        self._tell(asked)  # not those who came meanwhile: they may know better
        live = {watcher.job.id for watcher in self._watchers}
        self._sights = {job_id: self._sights[job_id] for job_id in live & self._sights.keys()}
        return time.monotonic() - start

    def _tell(self, asked: Sequence[_Watcher]) -> None:
        """A few of each tenant at a time: they are told the newest state when their turn comes, and
        a crowd's writing does not hold the loop against others."""
        told: Counter[str] = Counter()
        self._behind = False
        for watcher in asked:
            sight = self._sights.get(watcher.job.id)
            if sight is None:
                continue
            tenant = watcher.job.request.tenant
            if told[tenant] >= MOST_TOLD:
                self._behind = True
            elif watcher.tell(sight):
                told[tenant] += 1
                if watcher in self._watchers:  # behind the others from now on
                    self._watchers[watcher] = self._watchers.pop(watcher)

    async def _see(self, jobs: Sequence[Job], ahead: set[str]) -> None:
        """Make new sights of the jobs that changed, or of which those in `ahead` stand otherwise
        than was told."""
        now = time.monotonic()
        due = now - self._looked_ahead_at >= OUTLOOK_SECONDS
        if due:
            self._looked_ahead_at = now
        outlooks = await self._outlooks(
            [job for job in jobs if job.id in ahead and (due or self._is_new_state(job))]
        )
        for job in jobs:
            before = self._sights.get(job.id)
            self._sights[job.id] = Sight.after(before, job, outlooks.get(job.id), now)

    def _is_new_state(self, job: Job) -> bool:
        sight = self._sights.get(job.id)
        return sight is None or sight.job.state is not job.state

    async def _outlooks(self, jobs: Sequence[Job]) -> dict[str, Outlook]:
        """Of each of them; none while it cannot be known."""
        ids = [job.id for job in jobs if not job.ended]
        try:
            found = await self._ledger.outlooks(ids) if ids else {}
        except LedgerUnavailable:
            return {}
        return {job_id: found.get(job_id, UNKNOWN) for job_id in ids}

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
            ids = sorted({watcher.job.id for watcher in due})
            until = await self._ledger.watch(ids, term_seconds(self._grace_seconds))
            for watcher in due:
                watcher.renewed_at, watcher.until = now, until

    async def _write_left(self) -> None:
        """Of clients that have left, while no other one waits here for the same job. Kept until it
        is written."""
        told = dict(self._left)
        waited_for = {watcher.job.id for watcher in self._watchers if watcher.keeps_alive}
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
