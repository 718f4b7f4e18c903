"""Waiting for jobs: one loop a process reads all watched jobs in one query and wakes watchers.

Level-triggered: a watcher sees the newest state, never a list of events, so nothing can be missed.
The same loop reads queue estimates, once a second in one call; a watcher is woken for one only when
it is news. It also renews `watched_until` of synchronous jobs, and writes to the ledger when a
client has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Self

from jobs.client.async_ledger import AsyncLedger
from jobs.depth import QueueEstimate
from jobs.job import Job
from jobs.ledger_errors import LedgerError, LedgerUnavailable
from jobs.policy.watch_deadline import renewal_seconds, term_seconds

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""The safety poll, should a wake-up be missed."""
RETRY_SECONDS = 0.5
ANSWERS_SECONDS = 0.25
PAUSE_PER_QUERY = 2.0
"""After each query the loop rests this many times as long: watching costs a third of one thread."""
MOST_WOKEN = 12
"""Watchers of one tenant that are woken at a time: a thousand of one job write no thousand answers
in one turn of the event loop."""
ESTIMATES_PER_SECOND = 20
"""Streams of one tenant that are told of nothing but a new place or ETA. A tenant with a thousand
of them hears of each less often; changes of the jobs themselves do not wait for this."""
PAUSE_PER_WATCHER_SECONDS = 0.002
ESTIMATE_SECONDS = 1.0
"""How often queue estimates are read while jobs stay in their states."""
LONGEST_PAUSE_SECONDS = 0.1
"""And at least so long for each watcher: one sees every pass at once, thousands are read for ten
times a second."""
ETA_SECONDS = 2.0
ETA_SHARE = 0.1
"""An ETA is news when it is off by more than both."""
UNKNOWN = QueueEstimate()


class News(Enum):
    """What a look found for one watcher."""

    NONE = auto()
    ESTIMATE = auto()
    JOB = auto()


class _Watcher:
    """One open request. `view` is the newest; `fresh` is set while it was not seen yet.

    renewed_at: on this process's clock; None: nothing is to be renewed. until: what its own last
    renewal made of `watched_until`; None: it has not renewed the watch yet.
    """

    def __init__(
        self, view: JobView, renewed_at: float | None, until: float | None, *, wants_estimate: bool
    ) -> None:
        self.view = view
        self.fresh = asyncio.Event()
        self.renewed_at = renewed_at
        self.until = until
        self.wants_estimate = wants_estimate

    @property
    def keeps_alive(self) -> bool:
        return self.renewed_at is not None and not self.job.ended

    @property
    def job(self) -> Job:
        """As it is known here."""
        return self.view.job

    def news(self, view: JobView) -> News:
        """What of it this watcher does not know yet."""
        before = self.view
        if view is before or not view.is_news(before, wants_estimate=self.wants_estimate):
            return News.NONE
        return News.JOB if view.is_news(before, wants_estimate=False) else News.ESTIMATE

    def tell(self, view: JobView) -> None:
        """Wake it."""
        self.view = view
        self.fresh.set()


class JobWatch:
    """All open requests of one gateway process."""

    def __init__(self, ledger: AsyncLedger, grace_seconds: float) -> None:
        self._ledger = ledger
        self._grace_seconds = grace_seconds
        self._watchers: dict[_Watcher, None] = {}  # those woken longest ago first
        self._behind = False
        self._estimates_from: dict[str, float] = {}  # by tenant: when the next may be told
        self._views: dict[str, JobView] = {}
        self._estimated_at = float("-inf")
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
        views = self._follow(
            JobView(job, UNKNOWN, time.monotonic()), renew_now, wants_estimate=False
        )
        async with aclosing(views):
            async for view in views:
                yield view.job

    async def views(self, job: Job, *, renew_now: bool = False) -> AsyncGenerator[JobView]:
        """As `snapshots`, with the queue estimate, also when only that is news. All watchers of a
        job are given the same object."""
        view = self._views.get(job.id)
        if view is None or view.job != job:
            estimates = await self._estimates([job])
            view = JobView(job, estimates.get(job.id, UNKNOWN), time.monotonic())
        async with aclosing(self._follow(view, renew_now, wants_estimate=True)) as views:
            async for view in views:
                yield view

    async def _follow(
        self, view: JobView, renew_now: bool, *, wants_estimate: bool
    ) -> AsyncGenerator[JobView]:
        until = None if renew_now else view.job.watched_until
        renewed_at = self._first_renewal(view.job, renew_now)
        watcher = _Watcher(view, renewed_at, until, wants_estimate=wants_estimate)
        self._watchers[watcher] = None
        if wants_estimate:
            self._views.setdefault(view.job.id, view)
        self._start()
        try:
            yield view
            while not view.job.ended:
                await watcher.fresh.wait()
                watcher.fresh.clear()
                view = watcher.view
                yield view
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
        """Its client has the answer: a later request with the same body is a new one. Written to
        the ledger soon, together with others."""
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
        """Ends by itself when nothing is watched; the next watcher starts it again."""
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
        await self._see(jobs, {watcher.job.id for watcher in asked if watcher.wants_estimate})
        self._wake(asked)  # not those that came meanwhile: they may know better
        live = {watcher.job.id for watcher in self._watchers}
        self._views = {job_id: self._views[job_id] for job_id in live & self._views.keys()}
        return time.monotonic() - start

    def _wake(self, asked: Sequence[_Watcher]) -> None:
        """A few of each tenant at a time: the others get the newest state in the next turn, and a
        crowd's writing does not hold the loop against other tenants."""
        woken: Counter[str] = Counter()
        estimates: Counter[str] = Counter()
        compared: dict[tuple[int, int, bool], News] = {}
        now = time.monotonic()
        waiting = {tenant for tenant, due in self._estimates_from.items() if due > now}
        self._behind = False
        for watcher in asked:
            view = self._views.get(watcher.job.id)
            if view is None:
                continue
            pair = (id(watcher.view), id(view), watcher.wants_estimate)  # few, for a crowd
            if pair not in compared:
                compared[pair] = watcher.news(view)
            news, tenant = compared[pair], watcher.job.request.tenant
            if news is News.NONE or (news is News.ESTIMATE and tenant in waiting):
                continue
            if woken[tenant] >= MOST_WOKEN:
                self._behind = True
                continue
            woken[tenant] += 1
            estimates[tenant] += news is News.ESTIMATE
            watcher.tell(view)
            if watcher in self._watchers:  # behind the others from now on
                self._watchers[watcher] = self._watchers.pop(watcher)
        self._estimates_from = {tenant: self._estimates_from[tenant] for tenant in waiting} | {
            tenant: now + count / ESTIMATES_PER_SECOND
            for tenant, count in estimates.items()
            if count
        }

    async def _see(self, jobs: Sequence[Job], wanted: set[str]) -> None:
        """Make new views of the jobs that changed. wanted: those whose estimates are read."""
        now = time.monotonic()
        due = now - self._estimated_at >= ESTIMATE_SECONDS
        if due:
            self._estimated_at = now
        estimates = await self._estimates(
            [job for job in jobs if job.id in wanted and (due or self._is_new_state(job))]
        )
        for job in jobs:
            before = self._views.get(job.id)
            self._views[job.id] = JobView.after(before, job, estimates.get(job.id), now)

    def _is_new_state(self, job: Job) -> bool:
        view = self._views.get(job.id)
        return view is None or view.job.state is not job.state

    async def _estimates(self, jobs: Sequence[Job]) -> dict[str, QueueEstimate]:
        """Of each of them; none while the ledger is away."""
        ids = [job.id for job in jobs if not job.ended]
        try:
            found = await self._ledger.estimates(ids) if ids else {}
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
        pending = dict(self._left)
        waited_for = {watcher.job.id for watcher in self._watchers if watcher.keeps_alive}
        left = {job_id: until for job_id, until in pending.items() if job_id not in waited_for}
        if left:
            await self._ledger.unwatch(left, self._grace_seconds)
        for job_id, until in pending.items():
            if self._left.get(job_id) == until:
                del self._left[job_id]

    async def _write_answers(self) -> None:
        now = time.monotonic()
        if self._answered and now - self._answers_written_at > ANSWERS_SECONDS:
            self._answers_written_at = now
            answered, self._answered = self._answered, set()
            await self._ledger.answered(sorted(answered))


@dataclass(frozen=True, slots=True)
class JobView:
    """A job and its queue estimate."""

    job: Job
    estimate: QueueEstimate
    estimated_at: float
    """When the estimate was read, in seconds of any clock."""
    frames: dict[object, bytes] = field(default_factory=dict, compare=False)
    """Its encoded events, by whatever they differ in; made once for all watchers of the job."""

    @classmethod
    def after(
        cls, before: Self | None, job: Job, estimate: QueueEstimate | None, now: float
    ) -> Self:
        """What is known after a read: `before` itself where nothing is news. estimate: None when it
        was not read."""
        if before is None:
            return cls(job, estimate or UNKNOWN, now)
        if estimate is not None:
            seen = cls(job, estimate, now)
        elif job.state is before.job.state:
            seen = cls(job, before.estimate, before.estimated_at)
        else:
            seen = cls(job, UNKNOWN, now)
        return seen if seen.is_news(before, wants_estimate=True) else before

    def is_news(self, before: JobView, *, wants_estimate: bool) -> bool:
        """To a watcher that knows `before`."""
        if self.job is not before.job and self.job != before.job:
            return True
        passed = self.estimated_at - before.estimated_at
        return wants_estimate and has_moved(before.estimate, self.estimate, passed)


def has_moved(sent: QueueEstimate, now: QueueEstimate, passed_seconds: float) -> bool:
    """Whether a client that was sent the one estimate, that long ago, should get the other: an ETA
    that falls as time passes is no news."""
    if now.position != sent.position:
        return True
    if now.eta_seconds is None or sent.eta_seconds is None:
        return now.eta_seconds is not sent.eta_seconds
    expected = max(0.0, sent.eta_seconds - passed_seconds)
    return abs(now.eta_seconds - expected) > max(ETA_SECONDS, ETA_SHARE * expected)
