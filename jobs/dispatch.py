"""The dispatcher: claims jobs in fair order, sends their images to decoders, settles them.

Everything it does hangs on leases: whatever happens to this process, the ledger gives its jobs to
another one with their checkpoints. It decides nothing about fairness and touches no tensor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass

from jobs.finishing import blocked, finish, settle, store_preview
from jobs.flight import Flight, Hold, Shelf
from jobs.group_commit import AsyncLedger
from jobs.job import Job, RenderState
from jobs.ledger import LeaseLost, LedgerError, LedgerUnavailable, Outcome, Renewal
from jobs.ports import (
    Classifier,
    Decoders,
    Encoder,
    Press,
    RenderOrder,
    Slot,
    StageUnavailable,
    Update,
)

log = logging.getLogger(__name__)


class RenderFailed(Exception):
    """The decoder reported that a pass of this image failed."""


class RenderRejected(Exception):
    """The decoder's family cannot draw what was asked; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """lane: whose jobs. shelf: images kept encoded and screened for slots about to be free.
    screen_at: fractions of the passes after which a preview is screened even if nobody asked for
    one. attempts: decoder errors or progress-less losses of one image before it fails."""

    lane: str
    lease_seconds: float = 5.0
    heartbeat_seconds: float = 1.0
    shelf: int = 2
    screen_at: tuple[float, ...] = (0.5,)
    attempts: int = 3
    idle_poll_seconds: float = 1.0
    full_pause_seconds: float = 0.05
    retry_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages a dispatcher sends work to."""

    encoder: Encoder
    classifier: Classifier
    decoders: Decoders
    press: Press


class Dispatcher:
    """One per process. `run` until cancelled, `stop` gives everything back."""

    def __init__(
        self, ledger: AsyncLedger, stages: Stages, settings: DispatchSettings, worker: str
    ) -> None:
        self._ledger = ledger
        self._stages = stages
        self._settings = settings
        self._worker = worker
        self._holds: dict[str, Hold] = {}
        self._shelf = Shelf()
        self._preparing = 0
        self._room = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def held_jobs(self) -> int:
        """Jobs under lease here."""
        return len(self._holds)

    async def run(self) -> None:
        """Claim, dispatch, beat and rescue until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self._claim))
            group.create_task(self._forever(self._dispatch))
            group.create_task(self._forever(self._beat))
            group.create_task(self._forever(self._rescue))

    async def stop(self) -> None:
        """Take nothing new, write the last checkpoints, give every job back at its place."""
        self._stopping = True
        holds = list(self._holds.values())
        beats = [hold.beat() for hold in holds]
        for hold in holds:
            hold.drop()
        with suppress(LedgerError):
            await self._ledger.renew(beats, self._settings.lease_seconds)
            for hold in holds:
                await self._ledger.release(hold.job.id, hold.job.fence)
        self._holds.clear()

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
        room = self._settings.shelf - len(self._shelf) - self._preparing
        if room <= 0:
            self._room.clear()
            await self._room.wait()
            return
        seen = await self._ledger.version()
        jobs = await self._ledger.claim(
            self._settings.lane, self._worker, room, self._settings.lease_seconds
        )
        for job in jobs:
            self._take(job)
        if not jobs:
            await self._ledger.changed(seen, self._settings.idle_poll_seconds)

    def _take(self, job: Job) -> None:
        hold = Hold.of(job)
        self._holds[job.id] = hold
        self._preparing += len(hold.flights)
        self._spawn(self._prepare(hold))

    async def _prepare(self, hold: Hold) -> None:
        """Encode and screen the prompt, then put every image on the shelf."""
        waiting = len(hold.flights)
        try:
            outcome = await self._screened(hold)
            for flight in list(hold.flights.values()):
                if outcome is None:
                    self._shelf.put(flight)
                else:
                    await self._settle(flight, outcome)
        finally:
            self._preparing -= waiting
            self._room.set()

    async def _screened(self, hold: Hold) -> Outcome | None:
        """None when the prompt may be drawn; waits for stages that are away as long as we hold
        the job."""
        prompt = hold.job.request.prompt
        while not hold.dropped:
            try:
                hold.conditioning = await self._stages.encoder.encode(prompt)
                verdict = await self._stages.classifier.screen_prompt(prompt, hold.conditioning)
            except StageUnavailable as error:
                log.warning("preparing waits: %s", error)
                await asyncio.sleep(self._settings.retry_seconds)
            except Exception as error:
                log.exception("preparing %s failed", hold.job.id)
                return Outcome(RenderState.FAILED, error=f"preparing the prompt failed: {error!r}")
            else:
                return blocked(verdict, "input") if verdict.blocked else None
        return None

    # Dispatching

    async def _dispatch(self) -> None:
        """Wait for work first, then reserve: a reservation without work would spin."""
        await self._shelf.filled()
        taken = asyncio.Event()
        self._spawn(self._reserve(taken))
        await taken.wait()

    async def _reserve(self, taken: asyncio.Event) -> None:
        try:
            async with self._stages.decoders.reserve() as slot:
                flight = self._shelf.take()  # the fairest, decided at the last moment
                self._room.set()
                taken.set()
                if flight is not None:
                    flight.task = asyncio.current_task()
                    await self._fly(flight, slot)
        except StageUnavailable as error:
            log.warning("no decoder to reserve: %s", error)
            await asyncio.sleep(self._settings.retry_seconds)
        finally:
            taken.set()

    async def _fly(self, flight: Flight, slot: Slot) -> None:
        """One trip through a decoder; whatever ends it, the image is settled or shelved again."""
        start = flight.pass_no
        flight.accepted = False
        try:
            pixels = await self._trip(flight, slot)
        except StageUnavailable as error:
            if flight.accepted and flight.pass_no == start:
                await self._attempt(flight, f"lost without progress: {error}")
                return
            log.info("%s goes on elsewhere from pass %s", flight.hold.job.id, flight.pass_no)
            pixels = None
        except RenderRejected as error:
            await self._settle(flight, Outcome(RenderState.FAILED, error=str(error)))
            return
        except RenderFailed as error:
            await self._attempt(flight, str(error))
            return
        except Exception as error:
            log.exception("a trip of %s failed", flight.hold.job.id)
            await self._attempt(flight, repr(error))
            return
        if pixels is not None:
            self._spawn(self._finish(flight, pixels))
        elif flight.flying:
            self._shelf.put(flight, first=True)

    async def _trip(self, flight: Flight, slot: Slot) -> object | None:
        """Follow one stream to its pixels; None when the replica had no slot after all."""
        async for update in slot.render(self._order(flight)):
            if update.kind == "full":
                await asyncio.sleep(self._settings.full_pause_seconds)
                return None
            if update.kind == "failed":
                reason = update.error or "the decoder gave no reason"
                raise RenderRejected(reason) if update.rejected else RenderFailed(reason)
            self._note(flight, update)
            if update.pixels is not None:
                return update.pixels
        raise StageUnavailable("the stream ended before the picture was done")

    def _order(self, flight: Flight) -> RenderOrder:
        passes = flight.hold.job.request.passes
        looks = {round(passes * fraction) for fraction in self._settings.screen_at}
        return flight.order(tuple(look for look in looks if 0 < look < passes))

    def _note(self, flight: Flight, update: Update) -> None:
        """Where the image is now; a preview is screened beside the next passes."""
        flight.pass_no = update.pass_no
        if update.kind == "accepted":
            flight.accepted = True
            flight.state = RenderState.RENDERING
        elif update.kind == "pass":
            flight.checkpoint = update.checkpoint
            if update.pass_no >= flight.hold.job.request.passes:
                flight.state = RenderState.FINISHING
        if update.preview is not None:
            task = self._spawn(self._look(flight, update.pass_no, update.preview))
            flight.screens.add(task)
            task.add_done_callback(flight.screens.discard)

    async def _look(self, flight: Flight, pass_no: int, pixels: object) -> None:
        """Screen a preview beside the render; stop the render at once when it is bad."""
        moderation = flight.hold.job.request.moderation
        try:
            verdict = await self._stages.classifier.screen_image(pixels, moderation)
            if verdict.blocked:
                flight.stop()
                await self._settle(flight, blocked(verdict, "output"))
            elif flight.wants_preview(pass_no):
                await store_preview(flight, pass_no, pixels, self._stages.press)
                self._beat_now.set()
        except StageUnavailable as error:
            log.info("preview of pass %s skipped: %s", pass_no, error)  # the final one is screened

    async def _attempt(self, flight: Flight, error: str) -> None:
        """The decoder gave up on this image: try again, or settle it as failed."""
        flight.attempts += 1
        log.warning("attempt %s of %s failed: %s", flight.attempts, flight.hold.job.id, error)
        if flight.attempts >= self._settings.attempts:
            await self._settle(flight, Outcome(RenderState.FAILED, error=error))
        elif flight.flying:
            self._shelf.put(flight)

    async def _finish(self, flight: Flight, pixels: object) -> None:
        try:
            outcome = await finish(flight, pixels, self._stages.classifier, self._stages.press)
        except StageUnavailable as error:
            log.warning("finishing waits: %s", error)
            del pixels  # the final checkpoint draws them again
            await asyncio.sleep(self._settings.retry_seconds)
            if flight.flying:
                self._shelf.put(flight)
        except Exception as error:
            log.exception("finishing %s failed", flight.hold.job.id)
            await self._attempt(flight, repr(error))
        else:
            await self._settle(flight, outcome)

    async def _settle(self, flight: Flight, outcome: Outcome) -> None:
        hold = flight.hold
        if hold.dropped or hold.flights.pop(flight.index, None) is None:
            return
        try:
            await settle(self._ledger, flight, outcome)
        except LeaseLost:
            hold.drop()
        if not hold.flights:
            self._holds.pop(hold.job.id, None)

    # Beating

    async def _beat(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._beat_now.wait(), self._settings.heartbeat_seconds)
        self._beat_now.clear()
        beats = [hold.beat() for hold in self._holds.values()]
        if not beats:
            return
        for renewal in await self._ledger.renew(beats, self._settings.lease_seconds):
            await self._obey(renewal)

    async def _obey(self, renewal: Renewal) -> None:
        hold = self._holds.get(renewal.job_id)
        if hold is None:
            return
        if not renewal.held or renewal.cancelled:
            self._holds.pop(renewal.job_id)
            hold.drop()
        elif renewal.yield_to_tier is not None:
            beat = hold.beat()
            self._holds.pop(renewal.job_id)
            hold.drop()
            await self._ledger.renew([beat], self._settings.lease_seconds)
            await self._ledger.release(hold.job.id, hold.job.fence)

    async def _rescue(self) -> None:
        await asyncio.sleep(self._settings.lease_seconds / 3)
        await self._ledger.expire()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a dispatcher task failed", exc_info=error)
