"""Waiting for jobs: one loop a process reads the watched jobs in one query and wakes watchers.

Level-triggered: a watcher sees the newest state, never a list of events, so nothing can be missed.
Of many jobs it reads those that are held, that have ended since, or whose watcher is new, and
some of the others in turn: thousands that wait cost no more than a hundred.
It also reads queue estimates, once a second in one call; a watcher is woken for one only when it is
news. It renews `watched_until` of synchronous jobs, and tells the ledger that a client has left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import chain, count, islice
from typing import Self

from jobs.client.async_ledger import AsyncLedger
from jobs.depth import QueueEstimate, has_moved
from jobs.job import HELD, Job
from jobs.ledger_errors import LedgerError, LedgerUnavailable
from jobs.policy.watch_deadline import renewal_seconds, term_seconds

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # the safety poll, should a wake-up be missed
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
ESTIMATE_SECONDS = 1.0  # how often queue estimates are read while jobs stay in their states
PAUSE_PER_WATCHER_SECONDS = 0.002
LONGEST_PAUSE_SECONDS = 0.1
"""And at least so long for each watcher: one sees every pass at once, thousands are read for ten
times a second."""
UNKNOWN = QueueEstimate()
AT_ONCE = 128
"""Jobs of one look beside those that can have changed: all of them, where there are no more."""
LATE_SECONDS = 10.0
"""A job is looked for so long after its end: its transaction ends later than its clock says."""


class News(Enum):
    """What a look found for one watcher."""

    NONE = auto()
    ESTIMATE = auto()
    JOB = auto()


@dataclass(eq=False, slots=True)
class _Watcher:
    """One open request. `view` is the newest; `fresh` is set while it was not seen yet.

    renewed_at: on this process's clock; None: nothing is to be renewed. until: what its own last
    renewal made of `watched_until`; None: it has not renewed the watch yet. woken: those with less
    were woken longer ago.
    """

    view: JobView
    renewed_at: float | None
    until: float | None
    wants_estimate: bool
    woken: int = 0
    fresh: asyncio.Event = field(default_factory=asyncio.Event)

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

    def tell(self, view: JobView, woken: int) -> None:
        """Wake it."""
        self.view, self.woken = view, woken
        self.fresh.set()


class JobWatch:
    """All open requests of one gateway process."""

    def __init__(self, ledger: AsyncLedger, grace_seconds: float) -> None:
        self._ledger, self._grace_seconds = ledger, grace_seconds
        self._watchers: dict[str, set[_Watcher]] = {}  # by job, those read longest ago first
        self._unread: dict[str, None] = {}  # whose watcher is new
        self._behind: set[str] = set()  # with watchers that were not told yet
        self._held: set[str] = set()  # when they were last read
        self._since: float | None = None  # on the ledger's clock; None: ends are not followed
        self._lanes: set[str] = set()  # of all jobs that were ever watched
        self._wakings = count()
        self._renew_from = float("-inf")
        self._estimates_from: dict[str, float] = {}  # by tenant: when the next may be told
        self._views: dict[str, JobView] = {}
        self._estimated_at = float("-inf")
        self._answered: set[str] = set()
        self._left: dict[str, float] = {}
        self._closed = False
        self._letting_go = False
        self._answers_written_at = float("-inf")
        self._loop: asyncio.Task[None] | None = None

    async def snapshots(self, job: Job, *, renew_now: bool = False) -> AsyncGenerator[Job]:
        """The job as it is, then after every change, until it has ended.

        Keeps the job watched if it is a synchronous one; `renew_now` when it was not submitted just
        now, and its watch may be about to lapse.
        """
        view = JobView(job, UNKNOWN, time.monotonic())
        async with aclosing(self._follow(view, renew_now, wants_estimate=False)) as views:
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
        renewed_at = float("-inf") if renew_now else time.monotonic()
        known = None if view.job.watched_until is None or view.job.ended else renewed_at
        watcher = _Watcher(view, known, until, wants_estimate)
        self._enter(watcher)
        try:
            yield view
            while not (view.job.ended or self._letting_go):
                await watcher.fresh.wait()
                watcher.fresh.clear()
                if watcher.view is not view:
                    view = watcher.view
                    yield view
        finally:
            self._leave(watcher)

    async def ended(self, job: Job) -> Job:
        """The job once it has ended, or as it is when all watchers are let go."""
        async with aclosing(self.snapshots(job)) as states:
            async for state in states:
                job = state
        return job

    async def answered(self, job_id: str) -> None:
        """Its client has the answer: a later request with the same body is a new one. Written to
        the ledger soon, together with others."""
        self._answered.add(job_id)
        self._start()

    def let_go(self) -> None:
        """This process ends soon: every watcher sees what is newest, and nothing after it."""
        self._letting_go = True
        for watcher in self._all():
            watcher.fresh.set()

    async def close(self) -> None:
        """Stop the loop; watchers see nothing new."""
        self._closed = True
        if (loop := self._loop) is not None and loop.cancel():
            await asyncio.wait({loop})

    def _all(self) -> list[_Watcher]:
        return [watcher for watchers in self._watchers.values() for watcher in watchers]

    def _enter(self, watcher: _Watcher) -> None:
        job, watcher.woken = watcher.job, next(self._wakings)
        self._watchers.setdefault(job.id, set()).add(watcher)
        self._unread[job.id] = None
        self._lanes.add(job.request.lane)
        if watcher.wants_estimate:
            self._views.setdefault(job.id, watcher.view)
        if watcher.renewed_at == float("-inf"):
            self._renew_from = watcher.renewed_at
        self._start()

    def _leave(self, watcher: _Watcher) -> None:
        job_id = watcher.job.id
        self._watchers[job_id].discard(watcher)
        if not self._watchers[job_id]:
            for known in (self._watchers, self._views, self._unread):
                known.pop(job_id, None)
            self._held.discard(job_id)
            self._behind.discard(job_id)
        if watcher.keeps_alive and watcher.until is not None:
            self._left[job_id] = watcher.until
            self._start()

    def _start(self) -> None:
        if not self._closed and (self._loop is None or self._loop.done()):
            self._loop = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Ends by itself when nothing is watched; the next watcher starts it again."""
        self._since = None
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
                continue
            except LedgerError as error:
                log.warning("the ledger is away, watchers go on waiting: %s", error)
            except Exception:
                log.exception("the watch loop failed, trying again")
            self._since = None
            await asyncio.sleep(RETRY_SECONDS)

    def _pause_seconds(self, query_seconds: float) -> float:
        some = sum(map(len, islice(self._watchers.values(), 50)))
        for_watchers = min(LONGEST_PAUSE_SECONDS, PAUSE_PER_WATCHER_SECONDS * some)
        return max(for_watchers, PAUSE_PER_QUERY * query_seconds)

    async def _look(self) -> float:
        """Read what can have changed; how long that took in seconds."""
        start = time.monotonic()
        ids, in_turn = await self._due()
        for job_id in in_turn:  # behind the others from now on
            self._unread.pop(job_id, None)
            self._watchers[job_id] = self._watchers.pop(job_id)
        # Not those that come meanwhile: they may know better.
        asked = [it for one in ids for it in self._watchers[one] if not it.job.ended]
        wanted = {watcher.job.id for watcher in asked}
        jobs = await self._ledger.get_many(sorted(wanted)) if wanted else []
        await self._see(jobs, {it.job.id for it in asked if it.wants_estimate}, in_turn)
        self._wake(sorted(asked, key=lambda watcher: watcher.woken))
        return time.monotonic() - start

    async def _due(self) -> tuple[Set[str], Set[str]]:
        """Jobs to read, and those of them whose turn it is."""
        if len(self._watchers) <= AT_ONCE:
            self._since = None
            return set(self._watchers), set(self._watchers)
        moved, now = await self._ledger.moved(sorted(self._lanes), self._since)
        if self._since is None:  # what ended before is not in it
            self._unread = dict.fromkeys(self._watchers)
        self._since = now - LATE_SECONDS
        in_turn = set(islice(chain(self._unread, self._watchers), AT_ONCE))
        return in_turn | self._behind | self._held | (moved & self._watchers.keys()), in_turn

    def _wake(self, asked: Sequence[_Watcher]) -> None:
        """A few of each tenant at a time: the others get the newest state in the next turn, and
        what is written to one tenant does not hold the loop against others."""
        woken: Counter[str] = Counter()
        estimates: Counter[str] = Counter()
        compared: dict[tuple[int, int, bool], News] = {}
        now = time.monotonic()
        waiting = {tenant for tenant, due in self._estimates_from.items() if due > now}
        self._behind = set()
        for watcher in asked:
            view = self._views.get(watcher.job.id)
            if view is None:
                continue
            pair = (id(watcher.view), id(view), watcher.wants_estimate)  # few, however many watch
            if pair not in compared:
                compared[pair] = watcher.news(view)
            news, tenant = compared[pair], watcher.job.request.tenant
            if news is News.NONE or (news is News.ESTIMATE and tenant in waiting):
                continue
            if woken[tenant] >= MOST_WOKEN:
                self._behind.add(watcher.job.id)
                continue
            woken[tenant] += 1
            estimates[tenant] += news is News.ESTIMATE
            watcher.tell(view, next(self._wakings))
        self._estimates_from = {tenant: self._estimates_from[tenant] for tenant in waiting} | {
            tenant: now + told / ESTIMATES_PER_SECOND for tenant, told in estimates.items() if told
        }

    async def _see(self, jobs: Sequence[Job], wanted: set[str], in_turn: Set[str]) -> None:
        """Make new views of the jobs that changed. wanted: those whose estimates are read, once a
        second; where very many are watched, in turn."""
        now = time.monotonic()
        due = now - self._estimated_at >= ESTIMATE_SECONDS
        if due:
            self._estimated_at = now
        turn = in_turn if self._since is not None or due else set[str]()
        estimates = await self._estimates(
            [it for it in jobs if it.id in wanted and (it.id in turn or self._is_new_state(it))]
        )
        for job in jobs:
            if job.id in self._watchers:
                before = self._views.get(job.id)
                self._views[job.id] = JobView.after(before, job, estimates.get(job.id), now)
                (self._held.add if job.state in HELD else self._held.discard)(job.id)

    def _is_new_state(self, job: Job) -> bool:
        return (view := self._views.get(job.id)) is None or view.job.state is not job.state

    async def _estimates(self, jobs: Sequence[Job]) -> dict[str, QueueEstimate]:
        """Of each of them; none while the ledger is away."""
        ids = [job.id for job in jobs if not job.ended]
        try:
            found = await self._ledger.estimates(ids) if ids else {}
        except LedgerUnavailable:
            return {}
        return {job_id: found.get(job_id, UNKNOWN) for job_id in ids}

    async def _renew(self) -> None:
        if (now := time.monotonic()) < self._renew_from:
            return
        every_seconds = renewal_seconds(self._grace_seconds)
        self._renew_from = now + every_seconds / 8
        waiting = [(it, it.renewed_at) for it in self._all() if it.keeps_alive]
        due = [it for it, at in waiting if at is not None and now - at > every_seconds]
        if due:
            ids = sorted({watcher.job.id for watcher in due})
            try:
                until = await self._ledger.watch(ids, term_seconds(self._grace_seconds))
            except LedgerError:
                self._renew_from = now
                raise
            for watcher in due:
                watcher.renewed_at, watcher.until = now, until

    async def _write_left(self) -> None:
        """Of clients that have left, while no other one waits here for the same job. Kept until it
        is written."""
        pending = dict(self._left)
        left = {job_id: until for job_id, until in pending.items() if not self._keeps(job_id)}
        if left:
            await self._ledger.unwatch(left, self._grace_seconds)
        for job_id, until in pending.items():
            if self._left.get(job_id) == until:
                del self._left[job_id]

    def _keeps(self, job_id: str) -> bool:
        return any(watcher.keeps_alive for watcher in self._watchers.get(job_id, ()))

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
        if estimate is None and job.state is before.job.state:
            seen = cls(job, before.estimate, before.estimated_at)
        else:
            seen = cls(job, estimate or UNKNOWN, now)
        return seen if seen.is_news(before, wants_estimate=True) else before

    def is_news(self, before: JobView, *, wants_estimate: bool) -> bool:
        """To a watcher that knows `before`."""
        if self.job is not before.job and self.job != before.job:
            return True
        passed = self.estimated_at - before.estimated_at
        read = wants_estimate and self.estimate is not before.estimate
        return read and has_moved(before.estimate, self.estimate, passed)
