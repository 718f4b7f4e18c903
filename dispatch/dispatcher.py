"""The dispatcher: claims jobs in fair order, sends their images to decoders, settles them.

Everything it does hangs on leases: whatever happens to this process, the ledger gives its jobs to
another one with their checkpoints. It decides nothing about fairness and touches no tensor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from dispatch.finish import Finishing, blocked
from dispatch.in_flight import Flight, Hold, Shelf
from dispatch.leases import Holds
from dispatch.overdue import Patience, WaitingRoom
from dispatch.ports import (
    CallFailed,
    CallLost,
    Classifier,
    Decoders,
    Encoder,
    Postprocessor,
    Slot,
    SourceGone,
    StageUnavailable,
    leaving_is_away,
)
from dispatch.prepare import Prepared, Preparing
from dispatch.render_stream import RenderFailed, RenderLeft, take_trip
from dispatch.trials import DecoderLosses, Trials
from engine.decoder import RenderRejected
from engine.render import Pixels
from jobs.client.async_ledger import AsyncLedger
from jobs.costs import CostNotes
from jobs.job import RenderState
from jobs.ledger import Asking, LedgerUnavailable, Outcome

log = logging.getLogger(__name__)
_NO_SLOT_SECONDS = 0.03  # who has waited for so long has found no free slot
_DOUBLINGS = 6  # of the pause before another replica is tried
_ASK_SECONDS = 0.01  # between two questions who should give way


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """lane: whose jobs. shelf: images kept encoded and screened for slots about to be free.
    screen_at: fractions of the passes after which a preview is screened even if nobody asked for
    one. attempts: failures of one image in a row, without progress, before it fails. finishing:
    images between decoder and store; with so many, nothing new is claimed.
    call_timeout_seconds: of one call of a stage that is no decoder. slow_seconds: a job whose calls
    take longer makes room for others and counts as one of those that wait: `waiting` at most, then
    nothing new is claimed. patience_seconds: after so long of waiting for a stage that is away a
    job goes back to the queue."""

    lane: str
    lease_seconds: float = 5.0
    heartbeat_seconds: float = 1.0
    shelf: int = 2
    screen_at: tuple[float, ...] = (0.5,)
    attempts: int = 3
    finishing: int = 16
    idle_poll_seconds: float = 1.0
    full_pause_seconds: float = 0.05
    retry_seconds: float = 1.0
    call_timeout_seconds: float = 60.0
    slow_seconds: float = 5.0
    waiting: int = 16
    patience_seconds: float = 60.0

    @property
    def patience(self) -> Patience:
        """With stages that do not answer."""
        return Patience(self.retry_seconds, self.slow_seconds, self.patience_seconds, self.waiting)


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages a dispatcher sends work to."""

    encoder: Encoder
    classifier: Classifier
    decoders: Decoders
    postprocessor: Postprocessor


class Dispatcher:
    """One per process. `run` until cancelled, `stop` gives everything back first."""

    def __init__(
        self, ledger: AsyncLedger, stages: Stages, settings: DispatchSettings, worker: str
    ) -> None:
        self._ledger = ledger
        self._stages = stages
        self._preparing = Preparing(
            stages.encoder, stages.classifier, stages.postprocessor, settings.call_timeout_seconds
        )
        self._last_steps = Finishing(
            stages.classifier, stages.postprocessor, settings.call_timeout_seconds
        )
        self._trials = Trials(self._preparing.probe)
        self._losses = DecoderLosses()
        self._settings = settings
        self._worker = worker
        self._shelf = Shelf()
        self._room = asyncio.Event()
        self._holds = Holds(ledger, settings.lease_seconds, self._left, stages.decoders.leave)
        self._waiting = WaitingRoom(self._holds, settings.patience, self._room.set)
        self._costs = CostNotes()
        self._beat_now = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = False

    @property
    def held_jobs(self) -> int:
        """Jobs under lease here."""
        return len(self._holds)

    async def run(self) -> None:
        """Claim, dispatch, beat and rescue until cancelled; then nothing of it goes on."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forever(self._claim))
                group.create_task(self._forever(self._dispatch))
                group.create_task(self._forever(self._make_way))
                group.create_task(self._forever(self._beat))
                group.create_task(self._forever(self._rescue))
        finally:
            await self._holds.end()

    async def stop(self) -> None:
        """Take nothing new, write the last checkpoints, give every job back at its place."""
        self._stopping = True
        async with self._claiming:  # a claim under way brings its jobs in first
            await self._holds.give_all_back()
        await self._holds.end()

    async def _forever(self, turn: Callable[[], Awaitable[None]]) -> None:
        """One turn after another; a turn that fails is logged, and the next one comes."""
        while not self._stopping:
            try:
                await turn()
            except LedgerUnavailable as error:
                log.warning("the ledger is away, trying again: %s", error)
                await asyncio.sleep(self._settings.retry_seconds)
            except Exception:
                log.exception("a dispatcher turn failed, trying again")
                await asyncio.sleep(self._settings.retry_seconds)

    # Claiming

    async def _claim(self) -> None:
        room = self._settings.shelf - len(self._shelf) - self._holds.preparing
        if room <= 0 or self._waiting.full or self._holds.finishing >= self._settings.finishing:
            self._room.clear()
            await self._room.wait()
            return
        settings = self._settings
        seen = await self._ledger.version()
        async with self._claiming:
            if self._stopping:
                return
            jobs = await self._ledger.claim(
                settings.lane, self._worker, room, settings.lease_seconds, self._waiting.crowded
            )
            for job in jobs:
                self._holds.take(job, self._prepare)
        if not jobs:
            await self._ledger.changed(seen, settings.idle_poll_seconds)

    def _left(self) -> None:
        """Some image is ours no more: forget it here, too, and look whether there is room."""
        self._shelf.sweep()
        self._room.set()

    async def _prepare(self, hold: Hold) -> None:
        """Encode and screen what was asked, then make every image ready. A call at fault is
        an attempt: the job goes back with it."""
        try:
            prepared = await self._prepared(hold)
        except SourceGone as error:
            outcome: Outcome | None = Outcome(RenderState.FAILED, error=str(error))
        except (CallFailed, StageUnavailable) as error:
            fault = str(error) if isinstance(error, CallFailed) else None
            await self._holds.give_back(hold, fault)
            return
        else:
            hold.conditioning, hold.source = prepared.conditioning, prepared.source
            outcome = blocked(prepared.verdict, "input") if prepared.verdict.blocked else None
        hold.preparing = None
        for flight in list(hold.flights.values()):
            if outcome is None:
                self._shelf.put(flight)
            else:
                self._holds.settle(flight, outcome)
        self._room.set()

    async def _prepared(self, hold: Hold) -> Prepared:
        """However often it takes. Raises SourceGone, CallFailed, and StageUnavailable when a stage
        was away for too long."""
        request = hold.job.request
        if hold.suspect:  # not at once again, and not together with those it was lost with
            self._waiting.enter(hold)
            hold.tries = hold.job.attempts
            await asyncio.sleep(self._waiting.pause(hold))
        while True:
            try:
                with self._waiting.timed(hold):
                    ask = partial(self._preparing.prepare, request)
                    prepared = await self._trials.run(request.tenant, hold.suspect, ask)
            except StageUnavailable as error:
                log.warning("preparing waits: %s", error)
                if self._gives_up(hold, error):
                    raise
                hold.suspect |= isinstance(error, CallLost)
                await asyncio.sleep(self._waiting.pause(hold))
            else:
                self._waiting.leave(hold)
                return prepared

    def _gives_up(self, hold: Hold, error: StageUnavailable) -> bool:
        """A job that waits for a stage that is away lives in the queue again after a while, where
        it has its deadline. Not a suspect: its next try decides."""
        self._waiting.enter(hold)
        return self._waiting.impatient(hold) and not isinstance(error, CallLost)

    # Dispatching

    async def _dispatch(self) -> None:
        """Wait for work first, then reserve: a reservation without work would spin."""
        await self._shelf.filled()
        taken = asyncio.Event()
        self._holds.spawn(self._reserve(taken))
        await taken.wait()

    async def _reserve(self, taken: asyncio.Event) -> None:
        """Put the fairest image into the next slot, and hold that slot until its trip is over.
        The trip is a task of its own, so that stopping it never leaks the reservation."""
        try:
            with leaving_is_away():
                async with self._stages.decoders.reserve() as slot:
                    flight = self._shelf.take()  # decided at the last moment
                    self._room.set()
                    taken.set()
                    if flight is not None:
                        await asyncio.wait({self._holds.move(flight, self._fly(flight, slot))})
        except StageUnavailable as error:
            log.warning("no decoder to reserve: %s", error)
            await asyncio.sleep(self._settings.retry_seconds)
        except Exception:
            log.exception("reserving a decoder failed")
            await asyncio.sleep(self._settings.retry_seconds)
        finally:
            taken.set()

    async def _fly(self, flight: Flight, slot: Slot) -> None:
        """One trip through a decoder; whatever ends it, the image is settled, finished or shelved
        again, and all that without keeping the slot waiting."""
        try:
            try:
                pixels = await take_trip(flight, slot, self._settings.screen_at, self._show)
            finally:
                self._losses.note(flight)
        except RenderLeft:
            log.info("%s has left at pass %s", flight.hold.job.id, flight.pass_no)
        except StageUnavailable as error:
            self._lost(flight, error)
        except RenderRejected as error:
            self._holds.settle(flight, Outcome(RenderState.FAILED, error=str(error)))
        except RenderFailed as error:
            self._attempt(flight, f"decoder: {error}")
        except Exception as error:
            log.exception("a trip of %s failed", flight.hold.job.id)
            self._attempt(flight, repr(error))
        else:
            if pixels is None:
                self._once_more(flight)
            elif self._holds.moves(flight):
                self._costs.note(flight.hold.job.request, flight.cost_seconds)
                self._holds.move(flight, self._finish(flight, pixels))

    def _lost(self, flight: Flight, error: StageUnavailable) -> None:
        if self._losses.blame(flight):
            self._attempt(flight, f"decoder: lost without progress: {error}")
            return
        log.info("%s goes on elsewhere from pass %s", flight.hold.job.id, flight.pass_no)
        self._once_more(flight)

    def _once_more(self, flight: Flight) -> None:
        """To another slot: at once, if there is one."""
        pause = 0.0 if flight.called_back else self._settings.full_pause_seconds
        pause *= 2 ** min(flight.unheard, _DOUBLINGS)
        self._shelve(flight, pause, first=True)

    def _show(self, flight: Flight, pass_no: int, pixels: Pixels) -> None:
        task = self._holds.spawn(self._look(flight, pass_no, pixels))
        flight.screens.add(task)
        task.add_done_callback(flight.screens.discard)

    async def _look(self, flight: Flight, pass_no: int, pixels: Pixels) -> None:
        """Screen a preview beside the render; stop the render at once when it is bad."""
        try:
            look = partial(self._last_steps.preview, flight, pass_no, pixels)
            verdict = await self._trials.run(flight.hold.job.request.tenant, False, look)
            if verdict.blocked:
                self._holds.settle(flight, blocked(verdict, "output"))
            elif flight.wants_preview(pass_no):
                self._beat_now.set()
        except (StageUnavailable, SourceGone, CallFailed) as error:
            log.info("preview of pass %s skipped: %s", pass_no, error)  # the final one is screened
        except Exception:
            log.exception("preview of pass %s skipped", pass_no)

    def _attempt(self, flight: Flight, error: str) -> None:
        """A stage failed because of this image: try again, or settle it as failed."""
        if not self._holds.moves(flight):
            return  # it was stopped meanwhile
        flight.attempts += 1
        self._waiting.enter(flight.hold)
        log.warning("attempt %s of %s failed: %s", flight.attempts, flight.hold.job.id, error)
        if flight.attempts >= self._settings.attempts:
            self._holds.settle(flight, Outcome(RenderState.FAILED, error=error))
        else:
            self._shelve(flight, self._waiting.pause(flight.hold))

    async def _finish(self, flight: Flight, pixels: Pixels) -> None:
        flight.finishing = True
        try:
            with self._waiting.timed(flight.hold):
                finish = partial(self._last_steps.finish, flight, pixels)
                tenant = flight.hold.job.request.tenant
                outcome = await self._trials.run(tenant, flight.suspect, finish)
            self._waiting.leave(flight.hold)
            if flight.screens:  # a preview in the ledger is worth the moment, and may be bad
                await asyncio.wait(set(flight.screens))
            self._holds.settle(flight, outcome)
        except StageUnavailable as error:
            log.warning("finishing waits: %s", str(error))  # the error itself remembers the pixels
            await self._finish_later(flight, error)
        except CallFailed as error:
            self._attempt(flight, str(error))
        except SourceGone as error:
            self._holds.settle(flight, Outcome(RenderState.FAILED, error=str(error)))
        except Exception as error:
            log.exception("finishing %s failed", flight.hold.job.id)
            self._attempt(flight, repr(error))
        finally:
            flight.finishing = False
            self._room.set()

    async def _finish_later(self, flight: Flight, error: StageUnavailable) -> None:
        self._beat_now.set()  # what is drawn is safe now, however long this takes
        if self._gives_up(flight.hold, error) and flight.hold.waits_but_for(flight):
            await self._holds.give_back(flight.hold)
            return
        flight.suspect |= isinstance(error, CallLost)
        self._shelve(flight, self._waiting.pause(flight.hold))

    def _shelve(self, flight: Flight, after_seconds: float = 0.0, *, first: bool = False) -> None:
        """Back to the shelf, now or later. Nobody keeps pixels meanwhile: the checkpoint draws
        them again."""
        if not self._holds.moves(flight):
            return
        if after_seconds:
            self._holds.move(flight, self._wait(flight, after_seconds, first))
        else:
            flight.task = None
            self._shelf.put(flight, first=first)

    async def _wait(self, flight: Flight, seconds: float, first: bool) -> None:
        await asyncio.sleep(seconds)
        self._shelve(flight, first=first)

    # Making way

    async def _make_way(self) -> None:
        """While images wait for slots, here or at replicas that let them wait for a moment, ask at
        every change of the ledger who should give way. One that has just come may find one yet."""
        if not self._holds.wanting():
            await self._shelf.filled()
        if not self._holds.wanting(_NO_SLOT_SECONDS):
            await asyncio.sleep(_NO_SLOT_SECONDS)
            return
        seen = await self._ledger.version()
        waiting = [hold.job for hold in self._holds.wanting() | self._holds.being_prepared]
        leaving = await self._ledger.make_way(
            Asking(
                self._settings.lane,
                self._worker,
                {job.id: job.request.tier for job in waiting},
                self._holds.drawing,
            )
        )
        self._holds.give_way(leaving)
        await asyncio.sleep(_ASK_SECONDS)
        await self._ledger.changed(seen, self._settings.heartbeat_seconds)

    # Beating

    async def _beat(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._beat_now.wait(), self._settings.heartbeat_seconds)
        self._beat_now.clear()
        await self._holds.renew()

    async def _rescue(self) -> None:
        await asyncio.sleep(self._settings.lease_seconds / 3)
        await self._ledger.expire()
        if measured := self._costs.take():
            await self._ledger.learn(measured)
