"""DecoderEngine: the running batch of one decoder. Sync code on its own thread; it owns the slots.

It knows renders and passes, never jobs, Ray or the ledger. Updates go out through `emit`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from engine.decoder import Decoder, OtherEncoder, OutOfMemory, Plan, RenderRejected
from engine.passes import Passed, Passes
from engine.render import RenderSpec, RenderUpdate
from engine.reports import Reports
from engine.room import Room, too_large
from engine.scheduled_render import ScheduledRender, usable_checkpoint
from engine.scheduler import Scheduler

logger = logging.getLogger(__name__)


class DecoderEngine:
    """Runs passes for a batch that renders join and leave at any pass boundary.

    A render that finds no slot may be held: it joins at the very boundary at which one is free.
    add, let_go, abort, drain and the properties are for any thread. step is for one thread at a
    time: the engine's own after `start`, or the caller's. `emit` is called from several threads,
    one at a time, under the engine's lock: it must only hand the update on, without waiting.
    Once `abort` has returned nothing more is emitted for that render. Every state that the decoder
    has begun is dropped at the pass boundary after its render's end.
    """

    def __init__(
        self,
        decoder: Decoder,
        slots: int,
        emit: Callable[[RenderUpdate], None],
        clock: Callable[[], float] = time.monotonic,
        passed: Passed | None = None,
        joules: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """passed, joules: see Passes; on the engine's thread."""
        self._decoder = decoder
        self._clock = clock
        self._scheduler: Scheduler[ScheduledRender] = Scheduler(slots)
        self._reports = Reports(emit, slots, clock)
        self._passes = Passes(decoder, self._reports, clock, passed, joules)
        self._room = Room(self._passes, self._reports, self._scheduler, self._pixels_made)
        self._changed = self._reports.changed
        self._restored: list[ScheduledRender] = []
        self._held: dict[str, ScheduledRender] = {}
        self._admitting = True
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="decoder-finish")
        self.last_step_at = clock()
        """Clock time at which the last pass ended, or the engine last took in work after idling."""
        self.error: str | None = None
        """Why the engine's thread died; None while it is well."""

    def add(self, spec: RenderSpec, *, hold: bool = False) -> bool:
        """Take a render in: ACCEPTED, it joins at the next pass boundary; or FULL and False, also
        for one whose conditioning the family cannot read.

        hold: without a slot it is held until one is free, behind those that came before, and what
        yields behind all others; then it is ACCEPTED, unless it is let go before. A render whose
        checkpoint has all its passes needs no slot. ValueError when a render of this id is in
        flight already.
        """
        try:
            plan = self._decoder.plan(spec)
        except OtherEncoder as error:
            self._reports.full(spec.render_id, str(error))
            return False
        except RenderRejected as error:
            return self._refuse(spec, error)
        render = ScheduledRender(spec, plan, usable_checkpoint(spec, plan, self._decoder.model))
        with self._changed:
            if self._reports.get(spec.render_id) is not None or spec.render_id in self._held:
                raise ValueError(f"render {spec.render_id} is in flight already")
            if self._admitting and (render.complete or self.free_slots > 0):
                self._take_in(render)
            elif self._admitting and hold:
                self._held[spec.render_id] = render
            else:
                self._reports.full(spec.render_id)
                return False
        return True

    def let_go(self, render_id: str) -> None:
        """A render that is held still: FULL. Others go on, and unknown ids are ignored."""
        with self._changed:
            if self._held.pop(render_id, None) is not None:
                self._reports.full(render_id)

    def _take_in(self, render: ScheduledRender) -> None:
        if not self._reports:
            self.last_step_at = self._clock()
        self._reports.open(render)
        if not render.spec.alone:
            self._reports.announce(render)
        if render.complete:
            self._restored.append(render)
        else:
            self._scheduler.join(render)
        self._changed.notify_all()

    def _take_held(self) -> None:
        """Under the lock, wherever a slot may have become free."""
        while self._held and self._scheduler.free_slots > 0:
            first = min(self._held.values(), key=lambda render: render.spec.yields)
            self._take_in(self._held.pop(first.spec.render_id))

    def _close_door(self) -> None:
        """Under the lock: no more renders are taken in, and those that are held are FULL."""
        self._admitting = False
        for render_id in list(self._held):
            self.let_go(render_id)

    def _refuse(self, spec: RenderSpec, error: RenderRejected) -> bool:
        """ACCEPTED, then FAILED: it is the request's fault, no other replica helps."""
        render = ScheduledRender(spec, Plan(0, "", 0.0), None)
        with self._changed:
            self._reports.announce(render)
            self._reports.fail(render, error)
        return True

    def abort(self, render_id: str) -> None:
        """Drop a render; its slot is free at the next pass boundary. Unknown ids are ignored."""
        with self._changed:
            self._held.pop(render_id, None)
            render = self._reports.get(render_id)
            if render is not None:
                self._reports.end(render)
                self._take_held()

    def leave(self, render_id: str) -> None:
        """Let a render go at the next pass boundary, with what that pass brings: LEFT. It stays for
        its pixels if that was its last pass. Unknown ids are ignored."""
        with self._changed:
            render = self._reports.get(render_id)
            if render is not None:
                render.asked_to_leave = True
                self._take_held()

    def hand_on(self, within_seconds: float) -> tuple[int, int]:
        """Take no more renders in; those that are not surely done within that time leave at the
        next pass boundary, as if each were asked to. How many leave, and how many stay."""
        with self._changed:
            self._close_door()
            here = list(self._reports)
            turns = len({render.batch_key for render in here})
            leaving = [r for r in here if not r.done_within(within_seconds, turns)]
            for render in leaving:
                render.asked_to_leave = True
            return len(leaving), len(here) - len(leaving)

    def step(self) -> bool:
        """One pass for the batch; False when idle."""
        self._finish_restored()
        with self._changed:
            self._take_held()
            batch = _alone_first(self._scheduler.schedule())
            for render in batch:
                render.next_pass = render.pass_no + 1
            self._take_held()  # slots are promised while the last pass of a render is under way
        self._room.drop_ended()  # before those that got their slots begin
        if not batch:
            return False
        self._announce_alone(batch[0])
        passed = self._room.advance(batch)
        with self._changed:
            for render in batch:  # the pass is over: `leaving` goes by what is done
                render.next_pass = 0
            if passed and self._scheduler.grow():
                logger.info("%d renders at a time from now on", self._scheduler.width)
            self._scheduler.settle(batch)
            self.last_step_at = self._clock()
        for render in passed:
            self._report(render)
        self._room.drop_ended()
        return True

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Take no more renders in and wait for those in flight; False when the time ran out."""
        with self._changed:
            self._close_door()
        if self._thread is not None:
            with self._changed:
                return self._changed.wait_for(lambda: not self._reports, timeout_seconds)
        return self._drain_here(timeout_seconds)

    def _drain_here(self, timeout_seconds: float | None) -> bool:
        while True:
            if self.step():
                continue
            with self._changed:
                if not self._reports and not self._has_work():
                    return True
                if not self._changed.wait_for(self._has_work, timeout_seconds):
                    return False

    def start(self) -> None:
        """Run passes on the engine's own thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="decoder-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread at the next pass boundary. Renders in flight are dropped without an
        update: the last one of each is its checkpoint. Those with passes since their checkpoint
        leave with a new one. `drain` first to let them finish."""
        with self._changed:
            self._close_door()
            self._stopping = True
            for render in self._reports:
                if render.plan.checkpoint_seconds > 0 and render.unsaved_seconds > 0:
                    render.asked_to_leave = True
                else:
                    self._reports.end(render)
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        else:
            self._close()

    @property
    def admitting(self) -> bool:
        """False once it takes no more renders in."""
        return self._admitting

    @property
    def free_slots(self) -> int:
        """How many renders would be accepted now."""
        with self._changed:
            return self._scheduler.free_slots if self._admitting and not self._held else 0

    @property
    def running(self) -> int:
        """Renders that have a slot, or are promised one at the next pass boundary; without those
        that are held."""
        with self._changed:
            return self._scheduler.taken

    @property
    def finishing(self) -> int:
        """Renders without a slot whose pixels are being made."""
        with self._changed:
            return sum(render.complete for render in self._reports)

    @property
    def idle_seconds(self) -> float:
        """How long nothing has been in flight; 0.0 while something is."""
        with self._changed:
            if self._reports:
                return 0.0
            return self._clock() - max(self.last_step_at, self._reports.emptied_at)

    @property
    def stuck_seconds(self) -> float:
        """How long the decoder has been at the same pass, or at the same pixels."""
        return self._passes.stuck_seconds

    # On the engine's thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                if not self.step():
                    with self._changed:
                        self._changed.wait_for(lambda: self._stopping or self._has_work())
        except Exception as error:
            logger.exception("the engine's thread died")
            self._die(error)
        self._close()

    def _has_work(self) -> bool:
        return self._scheduler.taken > 0 or bool(self._restored) or self._reports.any_to_drop

    def _die(self, error: Exception) -> None:
        """A bug of the engine itself: every render in flight fails, none is taken in any more."""
        with self._changed:
            self.error = f"{type(error).__name__}: {error}"
            self._close_door()
            for render in self._reports:
                self._reports.fail(render, error)

    def _close(self) -> None:
        """Behind the last pass."""
        self._finisher.shutdown()
        for render in self._reports:
            self._room.send_away(render)
        self._room.drop_ended()

    def _pixels_made(self) -> None:
        self._finisher.submit(bool).result()

    def _announce_alone(self, render: ScheduledRender) -> None:
        """Of one that is tried alone, once there are no pixels in the making beside it."""
        if not render.announced:
            self._finisher.submit(self._reports.announce, render).result()

    def _report(self, render: ScheduledRender) -> None:
        """After a pass: checkpoint and preview out; after the last one, on to the pixels."""
        if render.ended:
            return
        leaving = render.asked_to_leave and not render.complete
        if render.checkpoint_due(leaving) and not self._passes.save(render):
            return
        preview = self._passes.preview(render)
        if leaving:
            self._reports.left(render, preview)
            return
        self._reports.passed(render, preview)
        if render.complete and not render.ended:
            self._start_finish(render)

    # Pixels

    def _finish_restored(self) -> None:
        """Renders that came with all their passes done go straight to their pixels."""
        with self._changed:
            restored, self._restored = self._restored, []
        for render in restored:
            self._announce_alone(render)
            if not self._room.begun(render):
                continue
            if render.complete:
                finish = self._start_finish(render)
                if render.spec.alone or render.pixels_alone:
                    finish.result()  # no pass beside it
            else:
                with self._changed:
                    self._scheduler.join(render)

    def _start_finish(self, render: ScheduledRender) -> Future[None]:
        with self._changed:
            render.finishing = True
        return self._finisher.submit(self._finish, render)

    def _finish(self, render: ScheduledRender) -> None:
        """Tokens to pixels, on the finishing thread; the slot has been free since the last pass.
        When they find no room beside a pass, they are made between two."""
        made = None if render.ended else self._passes.finish(render)
        with self._changed:
            render.finishing = False
            if isinstance(made, OutOfMemory) and not render.pixels_alone:
                render.pixels_alone = True
                self._restored.append(render)
            elif isinstance(made, OutOfMemory):
                self._reports.fail(render, too_large(str(made)))
            elif isinstance(made, Exception):
                self._reports.fail(render, made)
            elif made is not None:
                self._reports.done(render, made)
            self._changed.notify_all()


def _alone_first(batch: tuple[ScheduledRender, ...]) -> tuple[ScheduledRender, ...]:
    """Those that share the next pass; a render to be tried alone shares its first with none."""
    for render in batch:
        if not render.announced:
            return (render,)
    return batch
