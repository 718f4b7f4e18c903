"""The dispatcher: claims jobs in fair order, sends their images to decoders, settles them.

Everything it does hangs on leases: whatever happens to this process, the ledger gives its jobs to
another one with their checkpoints. It decides nothing about fairness and touches no tensor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

from dispatch.finish import Finishing, blocked
from dispatch.in_flight import IN_SLOT, InFlightRender, Lease, State
from dispatch.leases import Leases, OverdueJobs
from dispatch.metering import Interruption, LedgerTrouble, PreviewEnd
from dispatch.ports import CallFailed, CallLost, Slot, SourceGone, StageUnavailable, leaving_is_away
from dispatch.preempt import Preemption
from dispatch.prepare import Preparing
from dispatch.ready_queue import ReadyQueue
from dispatch.render_stream import RenderFailed, RenderLeft, stream_render
from dispatch.settings import DispatchSettings, Stages
from dispatch.trials import Trials
from dispatch.verdict_notes import VerdictNotes
from engine.decoder import OtherEncoder, RenderRejected
from engine.policy import ScreenStage
from engine.render import Pixels, RenderUpdate
from engine.verdict import Verdict
from jobs.client.async_ledger import AsyncLedger
from jobs.costs import CostNotes
from jobs.job import RenderState
from jobs.lease import Outcome
from jobs.ledger_errors import LedgerUnavailable

log = logging.getLogger(__name__)
_DOUBLINGS = 6  # of the pause before another replica is tried
ENDS: Mapping[type[BaseException], Interruption] = {
    RenderLeft: Interruption.PREEMPTED,
    StageUnavailable: Interruption.LOST,
    asyncio.CancelledError: Interruption.ABORTED,
}
"""Of the stream of a render that had a slot; by what else it raises, it failed."""


class Dispatcher:
    """One per process. `run` until cancelled, `stop` releases everything first."""

    def __init__(
        self, ledger: AsyncLedger, stages: Stages, settings: DispatchSettings, worker: str
    ) -> None:
        self._ledger = ledger
        self._decoders = stages.decoders
        self._settings = settings
        self._worker = worker
        limit_seconds = settings.call_timeout_seconds
        self._notes = VerdictNotes(settings.log_prompts)
        self._preparing = Preparing(stages, limit_seconds, self._notes, settings.can)
        self._finishing = Finishing(stages, limit_seconds, self._notes)
        self._trials = Trials(self._preparing.probe)
        self._room = asyncio.Event()
        self._ready = ReadyQueue(self._make_place)
        self._metering = stages.metering
        self._leases = Leases(ledger, stages, settings.lease_seconds, self._room, self._notes)
        self._overdue = OverdueJobs(self._leases, settings, self._room)
        self._preemption = Preemption(ledger, self._leases, self._ready, stages.decoders, settings)
        self._costs = CostNotes()
        self._accepted = 0  # streams that ended after a decoder had accepted the render
        self._beat_now = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._stopping = False

    @property
    def held_jobs(self) -> int:
        """Jobs under lease here."""
        return len(self._leases)

    async def run(self) -> None:
        """Claim, dispatch, preempt, beat and rescue until cancelled; then nothing goes on."""
        preempt = partial(self._preemption.turn, self._worker)
        try:
            async with asyncio.TaskGroup() as group:
                for turn in (self._claim, self._dispatch, preempt, self._beat, self._rescue):
                    group.create_task(self._forever(turn))
        finally:
            await self._leases.end()

    async def stop(self) -> None:
        """Take nothing new, let renders leave their slots with the pass under way, write the last
        checkpoints, release every job at its place."""
        async with self._claiming:  # a claim under way brings its jobs in first; none comes after
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.last_pass_seconds):
                    await self._preemption.clear_all()
            self._stopping = True
            await self._leases.release_all()
            with suppress(LedgerUnavailable):
                await self._notes.flush(self._ledger)
        await self._leases.end()

    async def _forever(self, turn: Callable[[], Awaitable[None]]) -> None:
        """One turn after another; a turn that fails is logged, and the next one comes."""
        while not self._stopping:
            try:
                await turn()
            except LedgerUnavailable as error:
                log.warning("the ledger is away, trying again: %s", error)
                self._metering.trouble(LedgerTrouble.UNAVAILABLE)
                await asyncio.sleep(self._settings.retry_seconds)
            except Exception:
                log.exception("a dispatcher turn failed, trying again")
                await asyncio.sleep(self._settings.retry_seconds)

    # Claiming

    async def _claim(self) -> None:
        settings = self._settings
        room = settings.ready - len(self._ready) - self._leases.count(State.PREPARING)
        finishing = self._leases.count(State.FINISHING)
        if room <= 0 or self._overdue.full or finishing >= settings.finishing:
            self._room.clear()
            await self._room.wait()
            return
        seen = await self._ledger.version()
        async with self._claiming:
            if self._stopping:
                return
            jobs = await self._ledger.claim(
                settings.lane,
                self._worker,
                room,
                settings.lease_seconds,
                self._overdue.at_limit,
            )
            for job in jobs:
                self._leases.hold(job, self._prepare)
        if not jobs:
            await self._ledger.changed(seen, settings.idle_poll_seconds)

    async def _prepare(self, lease: Lease) -> None:
        """Encode and screen what was asked, then make every image ready. A call at fault is
        an attempt: the job is released with it."""
        outcome: Outcome | None = None
        try:
            prepared = await self._preparing.prepare_job(lease, self._trials, self._overdue)
        except SourceGone as error:
            outcome = Outcome(RenderState.FAILED, error=str(error))
        except (CallFailed, StageUnavailable) as error:
            fault = str(error) if isinstance(error, CallFailed) else None
            await self._leases.release(lease, fault)
            return
        else:
            lease.prepared(prepared.inputs)
            if prepared.verdict.blocked:
                outcome = blocked(prepared.verdict, prepared.screened[-1].stage)
        for render in lease.live:
            if outcome is not None:
                self._leases.settle(render, outcome)
            elif render.mine:
                self._ready.put(render)
        self._room.set()

    # Rendering

    async def _dispatch(self) -> None:
        """Wait for work first, then reserve: a reservation without work would spin."""
        await self._ready.filled()
        taken = asyncio.Event()
        self._leases.spawn(self._reserve(taken))
        await taken.wait()

    async def _reserve(self, taken: asyncio.Event) -> None:
        """Put the fairest image into the next slot, and hold that slot until its stream ends.
        The stream is a task of its own, so that stopping it never leaks the reservation."""
        try:
            with leaving_is_away():
                async with self._decoders.reserve() as slot:
                    render = self._ready.take()  # decided at the last moment
                    self._room.set()
                    taken.set()
                    if render is not None:
                        await asyncio.wait({self._leases.run(render, self._render(render, slot))})
        except StageUnavailable as error:
            log.warning("no decoder to reserve: %s", error)
            await asyncio.sleep(self._settings.retry_seconds)
        except Exception:
            log.exception("reserving a decoder failed")
            await asyncio.sleep(self._settings.retry_seconds)
        finally:
            taken.set()

    def _make_place(self, render: InFlightRender) -> None:
        """Decoders hold few images beside their slots: one of a batch is called back for any other
        that is ready."""
        if render.lease.job.request.in_batch:
            return
        for held in self._leases.images(State.DISPATCHED):
            if held.lease.job.request.in_batch:
                held.recall()
                return

    async def _render(self, render: InFlightRender, slot: Slot) -> None:
        """One stream from a decoder; however it ends, the image is settled, finished or queued
        again, without keeping the slot waiting."""
        job = render.lease.job
        try:
            done = await self._stream(render, slot)
        except RenderLeft:
            log.info("%s has left at pass %s", job.id, render.progress.pass_no)
        except StageUnavailable as error:
            self._lost(render, error)
        except OtherEncoder as error:
            self._encode_again(render, error)
        except (RenderRejected, RenderFailed) as error:
            self._failed(render, error)
        except Exception as error:
            log.exception("a render stream of %s failed", job.id)
            self._attempt(render, repr(error))
        else:
            if done is None or done.pixels is None:
                self._try_elsewhere(render)
            elif render.mine:
                self._costs.note(job.request, done.cost_seconds)
                self._leases.run(render, self._finish(render, done.pixels))

    async def _stream(self, render: InFlightRender, slot: Slot) -> RenderUpdate | None:
        """See stream_render; tells how it ended."""
        why: Interruption | None = Interruption.LEFT
        try:
            done = await stream_render(render, slot, self._settings, self._show)
            why = Interruption.LEFT if done is None else None
            return done
        except (Exception, asyncio.CancelledError) as error:
            why = ENDS.get(type(error), Interruption.FAILED)
            raise
        finally:
            # one that was aborted is in no slot any more, but has had one
            had_slot = render.state in IN_SLOT or render.unslotted_since is None
            if why is not None and had_slot:
                self._metering.interrupted(why)
            self._accepted += render.state in IN_SLOT | {State.FINISHING}

    def _lost(self, render: InFlightRender, error: StageUnavailable) -> None:
        if render.lost(self._accepted, self._leases.killer_beside(render)):
            self._attempt(render, f"decoder: lost without progress: {error}")
            return
        log.info("%s goes on elsewhere from pass %s", render.lease.job.id, render.progress.pass_no)
        self._try_elsewhere(render)

    def _try_elsewhere(self, render: InFlightRender) -> None:
        pause = 0.0 if render.state is State.RECALLED else self._settings.full_pause_seconds
        pause *= 2 ** min(render.losses.unaccepted, _DOUBLINGS)
        if render.mine:
            self._ready.put(render, pause, first=True)

    def _encode_again(self, render: InFlightRender, error: OtherEncoder) -> None:
        """Encoder and decoder are of two releases, as while an update rolls: no attempt counts."""
        if not render.mine:
            return
        log.warning("%s is prepared anew: %s", render.lease.job.id, error)
        self._preparing.forget(render.lease.inputs)
        render.pause()
        self._leases.run(render, self._prepare_again(render))

    async def _prepare_again(self, render: InFlightRender) -> None:
        """A job that meets no decoder of its encoder's release for long goes back to the queue."""
        lease, since = render.lease, render.unslotted_since or time.monotonic()
        if time.monotonic() - since > self._settings.patience_seconds and not lease.busy_beside(
            render
        ):
            await self._leases.release(lease)
            return
        await asyncio.sleep(self._settings.retry_seconds)
        await self._prepare(lease)

    def _failed(self, render: InFlightRender, error: Exception) -> None:
        if isinstance(error, RenderRejected | SourceGone):
            self._leases.settle(render, Outcome(RenderState.FAILED, error=str(error)))
        else:
            self._attempt(render, str(error))

    def _attempt(self, render: InFlightRender, error: str) -> None:
        """A stage failed because of this image: try again, or settle it as failed."""
        if not render.mine:
            return  # it was stopped meanwhile
        attempts, lease = render.fail_attempt(), render.lease
        self._overdue.add(lease)
        log.warning("attempt %s of %s failed: %s", attempts, lease.job.id, error)
        if attempts >= self._settings.attempts:
            self._leases.settle(render, Outcome(RenderState.FAILED, error=error))
        else:
            self._ready.put(render, self._overdue.backoff_seconds(lease))

    # From previews and pixels to blobs

    def _show(self, render: InFlightRender, pass_no: int, pixels: Pixels) -> None:
        screening = self._screen(render, pass_no, pixels, earlier=set(render.screenings))
        render.screened_by(self._leases.spawn(screening))

    async def _screen(
        self, render: InFlightRender, pass_no: int, pixels: Pixels, earlier: set[asyncio.Task[None]]
    ) -> None:
        """Screen a preview beside the render; stop the render at once when it is bad, unless the
        final picture has a verdict by then: the log alone hears of such a late one. Watchers get
        previews in the order of their passes: none before those whose screenings are `earlier`."""
        try:
            screen = partial(self._finishing.preview, render, pass_no, pixels)
            verdict = await self._trials.run(render.lease.job.request.tenant, False, screen)
            self._metering.preview(self._judged(render, pass_no, verdict))
            if not verdict.blocked and render.wants_preview(pass_no):
                if earlier:
                    await asyncio.wait(earlier)
                render.store_preview(pass_no)
                self._beat_now.set()
        except (StageUnavailable, SourceGone, CallFailed) as error:
            log.info("preview of pass %s skipped: %s", pass_no, error)  # the final one is screened
            self._metering.preview(PreviewEnd.SKIPPED)
        except Exception:
            log.exception("preview of pass %s skipped", pass_no)
            self._metering.preview(PreviewEnd.SKIPPED)

    def _judged(self, render: InFlightRender, pass_no: int, verdict: Verdict) -> PreviewEnd:
        if render.judged:
            return PreviewEnd.LATE
        if verdict.blocked:
            self._leases.settle(render, blocked(verdict, ScreenStage.PREVIEW))
            return PreviewEnd.BLOCKED
        return PreviewEnd.SHOWN if render.wants_preview(pass_no) else PreviewEnd.SCREENED

    async def _finish(self, render: InFlightRender, pixels: Pixels) -> None:
        lease = render.lease
        try:
            with self._overdue.timed(lease):
                finish = partial(self._finishing.finish, render, pixels)
                tenant, suspect = lease.job.request.tenant, render.losses.suspect
                outcome = await self._trials.run(tenant, suspect, finish)
            self._overdue.remove(lease)
            render.judge()
            if render.screenings:  # a preview in the ledger is worth the moment
                await asyncio.wait(set(render.screenings))
            self._leases.settle(render, outcome)
        except StageUnavailable as error:
            log.warning("finishing waits: %s", str(error))  # the error itself remembers the pixels
            await self._finish_later(render, error)
        except (SourceGone, CallFailed) as error:
            self._failed(render, error)
        except Exception as error:
            log.exception("finishing %s failed", lease.job.id)
            self._attempt(render, repr(error))
        finally:
            self._room.set()

    async def _finish_later(self, render: InFlightRender, error: StageUnavailable) -> None:
        self._beat_now.set()  # the checkpoint is safe now, however long this takes
        lease = render.lease
        if self._overdue.gives_up(lease, error) and not lease.busy_beside(render):
            await self._leases.release(lease)
            return
        if isinstance(error, CallLost):
            render.losses.suspected()
        if render.mine:
            self._ready.put(render, self._overdue.backoff_seconds(lease))

    # Beating

    async def _beat(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.heartbeat_seconds):
                await self._beat_now.wait()
        self._beat_now.clear()
        self._preemption.preempt(await self._leases.renew())
        await self._notes.flush(self._ledger)

    async def _rescue(self) -> None:
        await asyncio.sleep(self._settings.lease_seconds / 3)
        await self._ledger.expire()
        if measured := self._costs.take():
            await self._ledger.learn(measured)
