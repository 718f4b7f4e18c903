"""DecoderEngine: the running batch of one decoder. Sync code on its own thread; it owns the slots.

It knows renders and passes, never jobs, Ray or the ledger. Updates go out through `emit`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from engine.decoder import Decoder, Plan, RenderRejected
from engine.render import Pixels, RenderSpec, RenderUpdate, UpdateKind
from engine.scheduled_render import ScheduledRender, usable_checkpoint
from engine.scheduler import Scheduler

logger = logging.getLogger(__name__)


class DecoderEngine:
    """Runs passes for a batch that renders join and leave at any pass boundary.

    add, abort, drain and the properties are for any thread. step is for one thread at a time: the
    engine's own after `start`, or the caller's. `emit` is called from several threads, one at a
    time, under the engine's lock: it must only hand the update on, without waiting.
    Once `abort` has returned nothing more is emitted for that render.
    """

    def __init__(
        self,
        decoder: Decoder,
        slots: int,
        emit: Callable[[RenderUpdate], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder = decoder
        self._scheduler: Scheduler[ScheduledRender] = Scheduler(slots)
        self._emit = emit
        self._clock = clock
        self._changed = threading.Condition()
        self._renders: dict[str, ScheduledRender] = {}
        self._restored: list[ScheduledRender] = []
        self._at_work: dict[str, float] = {}
        self._admitting = True
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="decoder-finish")
        self.last_step_at = clock()
        """Clock time at which the last pass ended, or the engine last took in work after idling."""
        self.error: str | None = None
        """Why the engine's thread died; None while it is well."""

    def add(self, spec: RenderSpec) -> bool:
        """Take a render in: ACCEPTED, it joins at the next pass boundary; or FULL and False.

        A render whose checkpoint has all its passes needs no slot and is not FULL for want of one.
        ValueError when a render of this id is in flight already.
        """
        try:
            plan = self._decoder.plan(spec)
        except RenderRejected as error:
            return self._refuse(spec, error)
        render = ScheduledRender(spec, plan, usable_checkpoint(spec, plan, self._decoder.model))
        with self._changed:
            if spec.render_id in self._renders:
                raise ValueError(f"render {spec.render_id} is in flight already")
            has_room = render.complete or self._scheduler.free_slots > 0
            if not (self._admitting and has_room):
                self._emit(RenderUpdate(spec.render_id, UpdateKind.FULL))
                return False
            if not self._renders:
                self.last_step_at = self._clock()
            self._renders[spec.render_id] = render
            if not spec.alone:
                self._announce(render)
            if render.complete:
                self._restored.append(render)
            else:
                self._scheduler.join(render)
            self._changed.notify_all()
        return True

    def abort(self, render_id: str) -> None:
        """Drop a render; its slot is free at the next pass boundary. Unknown ids are ignored."""
        with self._changed:
            render = self._renders.get(render_id)
            if render is not None:
                self._end(render)

    def leave(self, render_id: str) -> None:
        """Let a render go at the next pass boundary, with what that pass brings: LEFT. It stays for
        its pixels if that was its last pass. Unknown ids are ignored."""
        with self._changed:
            render = self._renders.get(render_id)
            if render is not None:
                render.asked_to_leave = True

    def step(self) -> bool:
        """One pass for the batch; False when idle."""
        self._finish_restored()
        with self._changed:
            batch = _alone_first(self._scheduler.schedule())
            for render in batch:
                render.next_pass = render.pass_no + 1
        if not batch:
            return False
        self._announce_alone(batch[0])
        self._advance([render for render in batch if self._has_begun(render)])
        with self._changed:
            for render in batch:  # the pass is over: `leaving` goes by what is done
                render.next_pass = 0
            self._scheduler.settle(batch)
            self.last_step_at = self._clock()
        for render in batch:
            self._report(render)
        return True

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Take no more renders in and wait for those in flight; False when the time ran out."""
        with self._changed:
            self._admitting = False
        if self._thread is None:
            while self.step():
                pass
        with self._changed:
            return self._changed.wait_for(lambda: not self._renders, timeout_seconds)

    def start(self) -> None:
        """Run passes on the engine's own thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="decoder-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread at the next pass boundary. Renders in flight are dropped without an
        update: the last one of each is its checkpoint. `drain` first to let them finish."""
        with self._changed:
            self._admitting = False
            self._stopping = True
            for render in list(self._renders.values()):
                self._end(render)
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._finisher.shutdown()

    @property
    def free_slots(self) -> int:
        """How many renders would be accepted now."""
        with self._changed:
            return self._scheduler.free_slots if self._admitting else 0

    @property
    def running(self) -> int:
        """Renders that hold a slot, or are promised one at the next pass boundary."""
        with self._changed:
            return self._scheduler.taken

    @property
    def finishing(self) -> int:
        """Renders without a slot whose pixels are being made."""
        with self._changed:
            return sum(render.complete for render in self._renders.values())

    @property
    def idle_seconds(self) -> float:
        """How long nothing has been in flight; 0.0 while something is."""
        with self._changed:
            return 0.0 if self._renders else self._clock() - self.last_step_at

    @property
    def stuck_seconds(self) -> float:
        """How long the decoder has been at the same pass, or at the same pixels."""
        since = list(self._at_work.values())
        return self._clock() - min(since) if since else 0.0

    @contextmanager
    def _working(self, at: str) -> Iterator[None]:
        self._at_work[at] = self._clock()
        try:
            yield
        finally:
            del self._at_work[at]

    def _announce(self, render: ScheduledRender) -> None:
        """ACCEPTED, once."""
        with self._changed:
            if not render.announced:
                render.announced = True
                self._send(render, UpdateKind.ACCEPTED)

    def _announce_alone(self, render: ScheduledRender) -> None:
        """Of one that is tried alone, once there are no pixels in the making beside it."""
        if not render.announced:
            self._finisher.submit(self._announce, render).result()

    def _run(self) -> None:
        try:
            while not self._stopping:
                if not self.step():
                    with self._changed:
                        self._changed.wait_for(self._has_work_or_stops)
        except Exception as error:
            logger.exception("the engine's thread died")
            self._die(error)

    def _has_work_or_stops(self) -> bool:
        return self._stopping or self._scheduler.taken > 0 or bool(self._restored)

    def _die(self, error: Exception) -> None:
        """A bug of the engine itself: every render in flight fails, none is taken in any more."""
        with self._changed:
            self.error = f"{type(error).__name__}: {error}"
            self._admitting = False
            for render in list(self._renders.values()):
                self._fail(render, error)

    def _refuse(self, spec: RenderSpec, error: RenderRejected) -> bool:
        """ACCEPTED, then FAILED: it is the request's fault, no other replica helps."""
        render = ScheduledRender(spec, Plan(0, "", 0.0), None)
        with self._changed:
            self._send(render, UpdateKind.ACCEPTED)
            self._fail(render, error)
        return True

    def _has_begun(self, render: ScheduledRender) -> bool:
        """Begin where needed; False when the family refuses it. State that the family cannot read
        is no reason to fail: the render begins again."""
        if render.ended or render.decode_state is not None:
            return not render.ended
        try:
            self._begin(render)
        except Exception as error:
            if render.checkpoint is None:
                self._fail(render, error)
                return False
            logger.exception("render %s begins again", render.spec.render_id)
            render.checkpoint = None
            return self._has_begun(render)
        return True

    def _begin(self, render: ScheduledRender) -> None:
        """From its last good state; a source is encoded here, and the render pays for it."""
        began = self._clock()
        with self._working("pass"):
            render.decode_state = self._decoder.begin(render.spec, render.checkpoint)
        render.cost.add_setup(self._clock() - began)

    def _finish_restored(self) -> None:
        """Renders that came with all their passes done go straight to their pixels."""
        with self._changed:
            restored, self._restored = self._restored, []
        for render in restored:
            self._announce_alone(render)
            if not self._has_begun(render):
                continue
            if render.complete:
                finish = self._finisher.submit(self._finish, render)
                if render.spec.alone:
                    finish.result()  # no pass beside it
            else:
                with self._changed:
                    self._scheduler.join(render)

    def _advance(self, renders: Sequence[ScheduledRender]) -> None:
        """One pass. When it raises, each render tries it alone from its last good state, so that
        a poison render fails and its neighbours do not notice."""
        if not renders:
            return
        try:
            self._timed_step(renders)
        except Exception:
            logger.exception("a pass of %d renders raised; trying each alone", len(renders))
            for render in renders:
                self._advance_alone(render)

    def _advance_alone(self, render: ScheduledRender) -> None:
        try:
            self._begin(render)
            self._timed_step([render])
        except Exception as error:
            logger.exception("render %s fails", render.spec.render_id)
            self._fail(render, error)

    def _timed_step(self, renders: Sequence[ScheduledRender]) -> None:
        began = self._clock()
        with self._working("pass"):
            self._decoder.step([render.state for render in renders])
        took = self._clock() - began
        for render in renders:
            render.pass_seconds, render.batch_width = took, len(renders)
            render.cost.add_pass(took, len(renders))

    def _report(self, render: ScheduledRender) -> None:
        """After a pass: checkpoint and preview out; after the last one, on to the pixels."""
        if render.ended:
            return
        try:
            render.checkpoint = self._decoder.checkpoint(render.state)
        except Exception as error:
            logger.exception("render %s cannot be checkpointed", render.spec.render_id)
            self._fail(render, error)
            return
        preview = self._preview(render)
        if render.asked_to_leave and not render.complete:
            with self._changed:
                self._send(render, UpdateKind.LEFT, preview=preview)
                self._end(render)
            return
        self._send(render, UpdateKind.PASS, preview=preview)
        if render.complete and not render.ended:
            self._finisher.submit(self._finish, render)

    def _preview(self, render: ScheduledRender) -> Pixels | None:
        """A preview that cannot be drawn is missed, but does not cost the picture."""
        if render.complete or render.pass_no not in render.spec.preview_after:
            return None
        try:
            return self._decoder.preview(render.state)
        except Exception:
            logger.exception("render %s has no preview", render.spec.render_id)
            return None

    def _finish(self, render: ScheduledRender) -> None:
        """Tokens to pixels, on the finishing thread; the slot has been free since the last pass."""
        if render.ended:
            return
        try:
            with self._working("pixels"):
                pixels = self._decoder.finish(render.state)
        except Exception as error:
            logger.exception("render %s cannot be finished", render.spec.render_id)
            self._fail(render, error)
            return
        with self._changed:
            self._send(render, UpdateKind.DONE, pixels=pixels)
            self._end(render)

    def _fail(self, render: ScheduledRender, error: Exception) -> None:
        rejected = isinstance(error, RenderRejected)
        text = str(error) if rejected else f"{type(error).__name__}: {error}"
        with self._changed:
            self._send(render, UpdateKind.FAILED, error=text, rejected=rejected)
            self._end(render)

    def _end(self, render: ScheduledRender) -> None:
        """Under the lock: no more updates of this render; forget it."""
        render.ended = True
        if self._renders.get(render.spec.render_id) is render:
            del self._renders[render.spec.render_id]
            if not self._renders:
                self.last_step_at = self._clock()
        self._changed.notify_all()

    def _send(
        self,
        render: ScheduledRender,
        kind: UpdateKind,
        preview: Pixels | None = None,
        pixels: Pixels | None = None,
        error: str | None = None,
        rejected: bool = False,
    ) -> None:
        update = render.update(kind, self._scheduler.slots_max, preview, pixels, error, rejected)
        with self._changed:
            if not render.ended:
                self._deliver(render, update)

    def _deliver(self, render: ScheduledRender, update: RenderUpdate) -> None:
        """A listener that raises is gone: its render is dropped, the others go on."""
        try:
            self._emit(update)
        except Exception:
            logger.exception("the updates of render %s cannot be delivered", update.render_id)
            self._end(render)


def _alone_first(batch: tuple[ScheduledRender, ...]) -> tuple[ScheduledRender, ...]:
    """Those that share the next pass; a render to be tried alone shares its first with none."""
    for render in batch:
        if not render.announced:
            return (render,)
    return batch
