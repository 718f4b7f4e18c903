"""The jobs that one dispatcher holds under lease: held, renewed, settled, released.

Also the owner of the dispatcher's tasks: a job that no task moves on any more would be held for
ever, so a task that breaks releases its job. An image's outcome is written to the ledger exactly
once, however long the ledger is away.

Overdue jobs are kept waiting by a stage: they take no room from others, and are bounded.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from dispatch.checkpoints import Checkpoints
from dispatch.in_flight import IN_SLOT, LIVE, InFlightRender, Lease, State
from dispatch.metering import LedgerTrouble, SettledImage
from dispatch.ports import CallLost, StageUnavailable
from dispatch.settings import DispatchSettings, Stages
from dispatch.stage_times import LedgerClock
from dispatch.verdict_notes import VerdictNotes
from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job, RenderState
from jobs.lease import Outcome
from jobs.ledger_errors import LeaseLost, LedgerError, LedgerUnavailable
from jobs.log_context import of_job

log = logging.getLogger(__name__)

Work = Coroutine[None, None, None]
RETRY_FIRST_SECONDS = 0.2
RETRY_LAST_SECONDS = 2.0
OF_ONE_TENANT = 3
"""With so many of them overtaken by others, no more of their tenant's jobs are claimed."""
ALL = 4
"""Times as many may be overdue, with those that were overtaken."""
_DOUBLINGS = 3


class Leases:
    """Of one dispatcher. room: set whenever there may be room for another job."""

    def __init__(
        self,
        ledger: AsyncLedger,
        stages: Stages,
        lease_seconds: float,
        room: asyncio.Event,
        notes: VerdictNotes,
    ) -> None:
        self._ledger = ledger
        self._notes = notes
        self._metering = stages.metering
        self._checkpoints = Checkpoints(stages.postprocessor, self.spawn, stages.metering)
        self._lease_seconds = lease_seconds
        self._room = room
        self._clock = LedgerClock()
        self._leases: dict[str, Lease] = {}
        self._in: dict[State, dict[InFlightRender, None]] = {state: {} for state in LIVE}
        self._shares: dict[str, float] = {}
        self._stirred: dict[Lease, None] = {}  # since the last look at _shares
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes: set[asyncio.Task[None]] = set()
        self._ending = False

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases.values()))

    def holds(self, lease: Lease) -> bool:
        """Whether it is one of them, and not an earlier lease of the same job."""
        return self._leases.get(lease.job.id) is lease

    def images(self, *states: State) -> Iterator[InFlightRender]:
        """Those in one of these states; however many others there are."""
        for state in states:
            yield from list(self._in[state])

    def count(self, state: State) -> int:
        """Images in that state, without those of overdue jobs."""
        return sum(render.lease.overdue_since is None for render in self.images(state))

    def drawn_shares(self) -> dict[str, float]:
        """Of each job with images in slots, the share of passes that its furthest image has done.
        Only those that have moved since the last look are looked at."""
        for lease in self._stirred:
            if lease.any_in(*IN_SLOT):
                self._shares[lease.job.id] = lease.furthest_share
            else:
                self._shares.pop(lease.job.id, None)
        self._stirred.clear()
        return dict(self._shares)

    def _moved(self, render: InFlightRender, was: State) -> None:
        self._in.get(was, {}).pop(render, None)
        if render.state in self._in:
            self._in[render.state][render] = None
        if self.holds(render.lease):
            self._stirred[render.lease] = None

    def killer_beside(self, render: InFlightRender) -> bool:
        """Whether another image that decoders were lost with was sent to the same replica last, and
        is in no slot."""
        return any(
            other is not render
            and other.replica_id == render.replica_id
            and other.state not in IN_SLOT
            and (other.losses.suspect or other.losses.unaccepted > 0)
            for lease in self
            for other in lease.renders
        )

    def hold(self, job: Job, prepare: Callable[[Lease], Work]) -> None:
        """A job that was just claimed."""
        self._clock.claimed(job)
        if (lapsed := self._leases.get(job.id)) is not None:
            self.drop(lapsed)  # our own lease ran out before a heartbeat told us
        lease = self._leases[job.id] = Lease.of(job, self._clock.now, self._moved)
        with of_job(job.id):
            preparation = self.spawn(prepare(lease), lease)
        for render in lease.renders:
            self._in[render.state][render] = None
            render.run_by(preparation)

    async def renew(self) -> list[Lease]:
        """One heartbeat for all, with their checkpoints; returns those to preempt. It waits for no
        store: a large checkpoint goes there first, and is in the next heartbeat after that."""
        leases = list(self)
        if not leases:
            return []
        self._checkpoints.put(render for lease in leases for render in lease.live)
        beats = [lease.beat() for lease in leases]
        renewals = await self._ledger.renew(beats, self._lease_seconds)
        preempted = []
        for lease, beat, renewal in zip(leases, beats, renewals, strict=True):
            lease.beaten(beat)
            if renewal.held:
                self._checkpoints.recorded(lease, beat)
            else:
                self._metering.trouble(LedgerTrouble.LEASE_LOST)
            if lease.ended or self._ending:
                continue
            if not renewal.held or renewal.cancelled:
                self.drop(lease)
            elif renewal.yield_to_tier is not None:
                preempted.append(lease)
        return preempted

    def settle(self, render: InFlightRender, outcome: Outcome) -> None:
        """The first outcome of an image is its last; nothing stops its write."""
        if not render.live:
            return
        render.settle()
        self._room.set()
        with of_job(render.lease.job.id):
            write = self.spawn(self._write(render, outcome), render.lease)
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def _write(self, render: InFlightRender, outcome: Outcome) -> None:
        await self._checkpoints.idle(render)  # nothing is written of a job that has ended
        notes = self._notes.of(render.lease.job.id, render.index)
        said = render.life.said(render.times, whole=True)
        outcome = replace(outcome, verdicts=notes, **said)
        try:
            await settle(self._ledger, render, outcome, self._lease_seconds)
        except LeaseLost as error:
            log.info("lease lost: %s", error)
            self._metering.trouble(LedgerTrouble.LEASE_LOST)
            self._notes.give_back(notes)
            self.drop(render.lease)
        if render.state is State.SETTLING:
            render.record()
            self._settled(render, outcome)
        if render.lease.ended:
            self._forget(render.lease)
        if render.state is State.SETTLED:
            await self._checkpoints.settled(render)

    def _settled(self, render: InFlightRender, outcome: Outcome) -> None:
        now, job = self._clock.now(), render.lease.job
        waited = now - job.created_at
        log.info("image %s of %s %s after %.1f s", render.index, job.id, outcome.state, waited)
        self._metering.settled(SettledImage(job, render.index, outcome, render.times, now))

    def drop(self, lease: Lease) -> None:
        """Stop its images and never write for it again."""
        lease.drop()
        self._forget(lease)

    def _forget(self, lease: Lease) -> None:
        if self.holds(lease):
            del self._leases[lease.job.id]
            self._stirred.pop(lease, None)  # nothing may ever look at the shares
            self._shares.pop(lease.job.id, None)
        self._room.set()

    async def release(self, lease: Lease, error: str | None = None) -> None:
        """Back to the queue with the newest checkpoints; with `error` it counts as an attempt."""
        renders = lease.live
        self.drop(lease)
        await self._checkpoints.flush(renders, self._lease_seconds / 2)
        beat = lease.beat(*renders)
        with suppress(LedgerError):  # then the lease runs out
            await self._ledger.renew([beat], self._lease_seconds)
            await self._ledger.release(lease.job.id, lease.job.fence, error=error)

    async def release_all(self) -> None:
        """Stop every image, write the last checkpoints, release the jobs at their place."""
        self._ending = True
        leases = list(self)
        for render in [render for lease in leases for render in lease.live]:
            render.stop()
        renders = [render for lease in leases for render in lease.live]
        await self._checkpoints.flush(renders, self._lease_seconds / 2)
        for render in renders:
            render.life.left(self._clock.now(), preempted=False)
        with suppress(LedgerError):
            await self._ledger.renew([lease.beat() for lease in leases], self._lease_seconds)
        if self._writes:  # what is stored should not be rendered again
            await asyncio.wait(set(self._writes), timeout=self._lease_seconds)
        jobs = [lease.job for lease in leases if not lease.ended]
        releases = [self._ledger.release(job.id, job.fence) for job in jobs]
        await asyncio.gather(*releases, return_exceptions=True)  # or their leases run out

    async def end(self) -> None:
        """Drop everything and end every task."""
        self._ending = True
        for lease in self:
            self.drop(lease)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Tasks

    def run(self, render: InFlightRender, work: Work) -> asyncio.Task[None]:
        """Let `work` move this image on: it queues or settles it, or runs the next such work."""
        with of_job(render.lease.job.id):
            task = self.spawn(work)
        render.run_by(task)
        task.add_done_callback(partial(self._ran, render))
        return task

    def _ran(self, render: InFlightRender, task: asyncio.Task[None]) -> None:
        if render.live and render.task is task:
            self._abandon(render.lease, task)

    def spawn(self, work: Work, lease: Lease | None = None) -> asyncio.Task[None]:
        """A task of ours; if it carries a whole job and breaks, the job is released."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, lease))
        return task

    def _done(self, lease: Lease | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a dispatcher task failed", exc_info=error)
        if lease is not None and (task.cancelled() or error is not None):
            self._abandon(lease, task)

    def _abandon(self, lease: Lease, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if lease.ended or self._ending or (lease.preempting and error is None):
            return
        reason = "a task ended too early" if error is None else repr(error)
        self.spawn(self.release(lease, f"dispatcher: {reason}"))


async def settle(
    ledger: AsyncLedger, render: InFlightRender, outcome: Outcome, lease_seconds: float
) -> None:
    """Until it is written, or its job dropped. Raises LeaseLost when another holder has it."""
    pause = RETRY_FIRST_SECONDS
    if outcome.state is RenderState.FAILED:  # its tries may have been shorter than a heartbeat
        outcome = replace(outcome, pass_no=render.furthest, attempts=render.attempts)
    while render.state is State.SETTLING:
        try:
            if set(render.progress.previews) - render.recorded:  # a settled image takes none
                await ledger.renew([render.lease.beat(render)], lease_seconds)
            await _write(ledger, render, outcome)
        except LedgerUnavailable:
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_LAST_SECONDS)
        else:
            return


async def _write(ledger: AsyncLedger, render: InFlightRender, outcome: Outcome) -> None:
    """An earlier try may have come through although its answer was lost: that is no lost lease."""
    job = render.lease.job
    try:
        await ledger.finish_render(job.id, job.fence, render.index, outcome)
    except LeaseLost:
        stored = await ledger.get(job.id)
        if stored is None or stored.fence != job.fence:
            raise
        found = stored.renders[render.index]
        if (found.state, found.blob) != (outcome.state, outcome.blob):
            raise


class OverdueJobs:
    """Of one dispatcher. room: set when one becomes overdue, or is not any more."""

    def __init__(self, leases: Leases, settings: DispatchSettings, room: asyncio.Event) -> None:
        self._leases = leases
        self._settings = settings
        self._room = room
        self._late: dict[Lease, None] = {}
        self._answered_at = time.monotonic()

    @property
    def full(self) -> bool:
        """Whether there is no room for another one. Those that have been overtaken say little about
        the stages, and so about others."""
        overdue, overtaken, most = len(self._overdue), len(self._overtaken), self._settings.waiting
        return overdue - overtaken >= most or overdue >= ALL * most

    @property
    def at_limit(self) -> frozenset[str]:
        """Tenants that have their share of it. In an outage of a stage no job overtakes another,
        and that says nothing about a tenant."""
        jobs_of = Counter(lease.job.request.tenant for lease in self._overtaken)
        return frozenset(tenant for tenant, jobs in jobs_of.items() if jobs >= OF_ONE_TENANT)

    @property
    def _overdue(self) -> list[Lease]:
        self._late = {lease: None for lease in self._late if self._leases.holds(lease)}
        return list(self._late)

    @property
    def _overtaken(self) -> list[Lease]:
        """Overdue, although the stages have answered for another job since."""
        since = ((lease, lease.overdue_since) for lease in self._overdue)
        return [lease for lease, at in since if at is not None and at < self._answered_at]

    @contextmanager
    def timed(self, lease: Lease) -> Iterator[None]:
        """Around the calls of a job: it is overdue from when they are late."""
        loop = asyncio.get_running_loop()
        late = loop.call_later(self._settings.slow_seconds, self.add, lease)
        try:
            yield
        finally:
            late.cancel()

    def add(self, lease: Lease) -> None:
        """It takes no room from now on."""
        lease.late()
        self._late[lease] = None
        self._room.set()

    def remove(self, lease: Lease) -> None:
        """The stages have answered."""
        self._answered_at = time.monotonic()
        lease.answered()
        self._late.pop(lease, None)
        self._room.set()

    def backoff_seconds(self, lease: Lease) -> float:
        """Until its next try, which this counts; jobs that were lost together come back apart."""
        doubled = self._settings.retry_seconds * float(2 ** min(lease.retries, _DOUBLINGS))
        lease.retry()
        return doubled * random.uniform(0.5, 1.5)

    def gives_up(self, lease: Lease, error: StageUnavailable) -> bool:
        """Whether a job that waits for a stage should do so in the queue, where it has its
        deadline. Not a suspect: its next try decides."""
        self.add(lease)
        waited = time.monotonic() - (lease.overdue_since or 0.0)
        return waited > self._settings.patience_seconds and not isinstance(error, CallLost)
