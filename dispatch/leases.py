"""Everything that one dispatcher holds under lease: how it is renewed, settled and given back.

Also the owner of the dispatcher's tasks: an image or a job that no task moves on any more would be
held for ever, so a task that breaks gives its job back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial

from dispatch.finish import settle
from dispatch.in_flight import Flight, Hold
from dispatch.ports import StageUnavailable
from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job
from jobs.ledger import LeaseLost, LedgerError, Outcome, Renewal
from jobs.policy.preemption import SPARED_FROM, called_back

log = logging.getLogger(__name__)

Work = Coroutine[None, None, None]


class Holds:
    """The jobs under lease of one dispatcher. `left` is called whenever one is here no more, or an
    image of it ended; `ask_to_leave` is Decoders.leave."""

    def __init__(
        self,
        ledger: AsyncLedger,
        lease_seconds: float,
        left: Callable[[], None],
        ask_to_leave: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._ask_to_leave = ask_to_leave
        self._lease_seconds = lease_seconds
        self._left = left
        self._holds: dict[str, Hold] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes: set[asyncio.Task[None]] = set()
        self._ending = False

    def __len__(self) -> int:
        return len(self._holds)

    @property
    def preparing(self) -> int:
        """Images whose prompt is being encoded and screened, in time so far."""
        return sum(len(hold.flights) for hold in self.being_prepared)

    @property
    def finishing(self) -> int:
        """Images between decoder and store, in time so far."""
        holds = (hold for hold in self._holds.values() if hold.waiting_since is None)
        return sum(flight.finishing for hold in holds for flight in hold.flights.values())

    @property
    def waiting(self) -> list[Hold]:
        """Jobs that take no room, as a stage has not done with them in time."""
        return [hold for hold in self._holds.values() if hold.waiting_since is not None]

    @property
    def being_prepared(self) -> set[Hold]:
        """Jobs whose prompt is being encoded and screened, in time so far."""
        holds = self._holds.values()
        return {h for h in holds if h.preparing is not None and h.waiting_since is None}

    @property
    def drawing(self) -> dict[str, float]:
        """Jobs of which an image has a slot, and the share of its passes that the furthest has
        done."""
        return {
            job_id: hold.furthest_share
            for job_id, hold in self._holds.items()
            if any(flight.seat is not None for flight in hold.flights.values())
        }

    def wanting(self, for_seconds: float = 0.0) -> set[Hold]:
        """Jobs of which an image has waited for a slot for so long."""
        before = time.monotonic() - for_seconds
        since = (
            (hold, f.wanting_since) for hold in self._holds.values() for f in hold.flights.values()
        )
        return {hold for hold, at in since if at is not None and at <= before}

    def take(self, job: Job, prepare: Callable[[Hold], Work]) -> None:
        """A job that was just claimed."""
        if (lapsed := self._holds.get(job.id)) is not None:
            self.drop(lapsed)  # our own lease ran out before a heartbeat told us
        hold = Hold.of(job)
        self._holds[job.id] = hold
        hold.preparing = self.spawn(prepare(hold), hold)

    async def renew(self) -> None:
        """One heartbeat for all: leases, checkpoints, and what the ledger wants in return."""
        holds = list(self._holds.values())
        if not holds:
            return
        beats = [hold.beat() for hold in holds]
        renewals = await self._ledger.renew(beats, self._lease_seconds)
        for hold, beat, renewal in zip(holds, beats, renewals, strict=True):
            for render in beat.renders:
                if (flight := hold.flights.get(render.index)) is not None:
                    flight.told.update(render.previews)
            self._obey(hold, renewal)

    def _obey(self, hold: Hold, renewal: Renewal) -> None:
        if hold.dropped or self._ending:
            return
        if not renewal.held or renewal.cancelled:
            self.drop(hold)
        elif renewal.yield_to_tier is not None:
            self.give_way([hold.job.id])

    def give_way(self, job_ids: Iterable[str]) -> None:
        """Give these back, so that others get their slots; not one that is nearly done by now."""
        found = [self._holds[job_id] for job_id in job_ids if job_id in self._holds]
        holds = [h for h in found if not h.leaving and h.furthest_share < SPARED_FROM]
        for hold in holds:
            log.info("%s gives way", hold.job.id)
            hold.leaving = True
            for flight in hold.flights.values():
                if flight.wanting_since is not None:  # or it would take a slot that is cleared
                    flight.stop()
        if holds:
            self._left()
            self.spawn(self._leave(holds))

    async def _leave(self, holds: Sequence[Hold]) -> None:
        seats = [f.seat for hold in holds for f in hold.flights.values() if f.seat is not None]
        patience = self._lease_seconds
        try:
            if seats:
                await self._ask_to_leave(seats)
        except StageUnavailable as error:
            log.warning("renders give way in the middle of a pass: %s", error)
            patience = 0.0
        except Exception:
            log.exception("renders give way in the middle of a pass")
            patience = 0.0
        await asyncio.gather(*(self._let_go(hold, patience) for hold in holds))

    async def _let_go(self, hold: Hold, patience: float) -> None:
        """Once its images have left their slots, which brings the pass that is under way with them;
        unless that was the last one, and they are on to their pixels."""
        flying = [f for f in hold.flights.values() if f.seat is not None and f.task is not None]
        trips = {f.task for f in flying if f.task is not None}
        cleared = [f.replica_id for f in flying if f.replica_id is not None]
        late = (await asyncio.wait(trips, timeout=patience))[1] if trips else set()
        self._call_to(cleared)
        hold.leaving = False
        flights = hold.flights.values()
        if late or any(flight.task is None or flight.task.done() for flight in flights):
            await self.give_back(hold)

    def _call_to(self, cleared: Iterable[str]) -> None:
        """Slots have been cleared at these replicas: send those there who wait in vain elsewhere,
        before the one who made way comes again."""
        waiting = {
            flight: flight.waits_at
            for hold in self._holds.values()
            for flight in hold.flights.values()
            if flight.waits_at is not None and not (hold.leaving or flight.called_back)
        }
        for flight in called_back(waiting, cleared):
            if flight.task is not None:
                flight.called_back = True
                flight.task.cancel()

    def settle(self, flight: Flight, outcome: Outcome) -> None:
        """The first outcome of an image is its last. Nothing that is said about it later, and
        nobody who stops it, gets in the way of the write."""
        if not flight.flying:
            return
        del flight.hold.flights[flight.index]
        flight.hold.settling.add(flight)
        flight.stop()
        self._left()
        write = self.spawn(self._write(flight, outcome), flight.hold)
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def _write(self, flight: Flight, outcome: Outcome) -> None:
        hold = flight.hold
        try:
            await settle(self._ledger, flight, outcome, self._lease_seconds)
        except LeaseLost as error:
            log.info("somebody else has it: %s", error)
            self.drop(hold)
        finally:
            hold.settling.discard(flight)
        if hold.done:
            self._forget(hold)

    def drop(self, hold: Hold) -> None:
        """Stop its images and never write for it again."""
        hold.drop()
        self._forget(hold)

    def _forget(self, hold: Hold) -> None:
        if self._holds.get(hold.job.id) is hold:  # and not a later lease of the same job
            del self._holds[hold.job.id]
        self._left()

    async def give_back(self, hold: Hold, error: str | None = None) -> None:
        """Back to the queue with the newest checkpoints; with `error` it counts as an attempt."""
        beat = hold.beat()
        self.drop(hold)
        with suppress(LedgerError):  # then its lease runs out
            await self._ledger.renew([beat], self._lease_seconds)
            await self._ledger.release(hold.job.id, hold.job.fence, error=error)

    async def give_all_back(self) -> None:
        """Stop every image, write the last checkpoints, let go of the jobs at their place."""
        self._ending = True
        holds = list(self._holds.values())
        for flight in [flight for hold in holds for flight in hold.flights.values()]:
            flight.stop()
        with suppress(LedgerError):
            await self._ledger.renew([hold.beat() for hold in holds], self._lease_seconds)
        if self._writes:  # what is drawn and stored should not be drawn again
            await asyncio.wait(set(self._writes), timeout=self._lease_seconds)
        releases = [self._ledger.release(h.job.id, h.job.fence) for h in holds if not h.done]
        await asyncio.gather(*releases, return_exceptions=True)  # or their leases run out

    async def end(self) -> None:
        """Drop everything and end every task."""
        self._ending = True
        for hold in list(self._holds.values()):
            self.drop(hold)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Tasks

    def moves(self, flight: Flight) -> bool:
        """Whether the current task is the one that moves this image on."""
        return flight.flying and flight.task is asyncio.current_task()

    def move(self, flight: Flight, work: Work) -> asyncio.Task[None]:
        """Let `work` move this image on: it shelves or settles it, or starts the next such task."""
        task = self.spawn(work)
        flight.task = task
        task.add_done_callback(partial(self._moved, flight))
        return task

    def _moved(self, flight: Flight, task: asyncio.Task[None]) -> None:
        if flight.flying and flight.task is task:
            self._abandon(flight.hold, task)

    def spawn(self, work: Work, hold: Hold | None = None) -> asyncio.Task[None]:
        """A task of ours; if it carries a whole job and breaks, the job is given back."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, hold))
        return task

    def _done(self, hold: Hold | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a dispatcher task failed", exc_info=error)
        if hold is not None and (task.cancelled() or error is not None):
            self._abandon(hold, task)

    def _abandon(self, hold: Hold, task: asyncio.Task[None]) -> None:
        if hold.dropped or hold.leaving or self._ending:
            return
        error = None if task.cancelled() else task.exception()
        reason = "a task ended too early" if error is None else repr(error)
        self.spawn(self.give_back(hold, f"dispatcher: {reason}"))
