"""DecoderEngine: the running batch of one decoder. Sync code on its own thread; it owns the slots.

It knows renders and passes, never jobs, Ray or the ledger. What it says goes through `emit`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from engine.decoder import Decoder, Plan, RenderRejected
from engine.flight import Flight, usable_checkpoint
from engine.render import Pixels, RenderSpec, RenderUpdate, UpdateKind
from engine.scheduler import Scheduler

logger = logging.getLogger(__name__)


class DecoderEngine:
    """Passes for whoever is in the batch; renders join and leave at any pass boundary.

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
        self._scheduler: Scheduler[Flight] = Scheduler(slots)
        self._emit = emit
        self._clock = clock
        self._changed = threading.Condition()
        self._flights: dict[str, Flight] = {}
        self._restored: list[Flight] = []
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

        A render whose checkpoint has all its passes needs no slot and is never FULL for want of
        one. ValueError when a render of this id is in flight already.
        """
        try:
            plan = self._decoder.plan(spec)
        except RenderRejected as error:
            return self._refuse(spec, error)
        flight = Flight(spec, plan, usable_checkpoint(spec, plan, self._decoder.model))
        with self._changed:
            if spec.render_id in self._flights:
                raise ValueError(f"render {spec.render_id} is in flight already")
            has_room = flight.complete or self._scheduler.free_slots > 0
            if not (self._admitting and has_room):
                self._emit(RenderUpdate(spec.render_id, UpdateKind.FULL))
                return False
            if not self._flights:
                self.last_step_at = self._clock()
            self._flights[spec.render_id] = flight
            if not spec.alone:
                self._announce(flight)
            if flight.complete:
                self._restored.append(flight)
            else:
                self._scheduler.join(flight)
            self._changed.notify_all()
        return True

    def abort(self, render_id: str) -> None:
        """Drop a render; its slot is free at the next pass boundary. Unknown ids are ignored."""
        with self._changed:
            flight = self._flights.get(render_id)
            if flight is not None:
                self._end(flight)

    def leave(self, render_id: str) -> None:
        """Let a render go at the next pass boundary, with what that pass brings: LEFT. It stays for
        its pixels if that was its last pass. Unknown ids are ignored."""
        with self._changed:
            flight = self._flights.get(render_id)
            if flight is not None:
                flight.asked_to_leave = True

    def step(self) -> bool:
        """One pass for the batch; False when idle."""
        self._finish_restored()
        with self._changed:
            batch = _alone_first(self._scheduler.schedule())
            for flight in batch:
                flight.rides_to = flight.pass_no + 1
        if not batch:
            return False
        self._announce_alone(batch[0])
        self._advance([flight for flight in batch if self._has_begun(flight)])
        with self._changed:
            for flight in batch:  # from here on what is so counts, not what was to come
                flight.rides_to = 0
            self._scheduler.settle(batch)
            self.last_step_at = self._clock()
        for flight in batch:
            self._report(flight)
        return True

    def drain(self, timeout_seconds: float | None = None) -> bool:
        """Take no more renders in and wait for those in flight; False when the time ran out."""
        with self._changed:
            self._admitting = False
        if self._thread is None:
            while self.step():
                pass
        with self._changed:
            return self._changed.wait_for(lambda: not self._flights, timeout_seconds)

    def start(self) -> None:
        """Run passes on the engine's own thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="decoder-engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread at the next pass boundary. Renders in flight are dropped without a word:
        the last update of each is its checkpoint. `drain` first to let them finish."""
        with self._changed:
            self._admitting = False
            self._stopping = True
            for flight in list(self._flights.values()):
                self._end(flight)
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
            return sum(flight.complete for flight in self._flights.values())

    @property
    def idle_seconds(self) -> float:
        """How long nothing has been in flight; 0.0 while something is."""
        with self._changed:
            return 0.0 if self._flights else self._clock() - self.last_step_at

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

    def _announce(self, flight: Flight) -> None:
        """ACCEPTED, once."""
        with self._changed:
            if not flight.announced:
                flight.announced = True
                self._tell(flight, UpdateKind.ACCEPTED)

    def _announce_alone(self, flight: Flight) -> None:
        """Of one that is tried alone, once there are no pixels in the making beside it."""
        if not flight.announced:
            self._finisher.submit(self._announce, flight).result()

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
        """A bug of the engine itself: everyone in flight learns it, nobody is taken in any more."""
        with self._changed:
            self.error = f"{type(error).__name__}: {error}"
            self._admitting = False
            for flight in list(self._flights.values()):
                self._fail(flight, error)

    def _refuse(self, spec: RenderSpec, error: RenderRejected) -> bool:
        """Said as ACCEPTED, then FAILED: it is the request's fault, no other replica helps."""
        flight = Flight(spec, Plan(0, "", 0.0), None)
        with self._changed:
            self._tell(flight, UpdateKind.ACCEPTED)
            self._fail(flight, error)
        return True

    def _has_begun(self, flight: Flight) -> bool:
        """Begin where needed; False when the family refuses it. State that the family cannot read
        is no reason to fail: the render begins again."""
        if flight.ended or flight.render is not None:
            return not flight.ended
        try:
            self._begin(flight)
        except Exception as error:
            if flight.checkpoint is None:
                self._fail(flight, error)
                return False
            logger.exception("render %s begins again", flight.spec.render_id)
            flight.checkpoint = None
            return self._has_begun(flight)
        return True

    def _begin(self, flight: Flight) -> None:
        """From its last good state; a source is encoded here, and the render pays for it."""
        began = self._clock()
        with self._working("pass"):
            flight.render = self._decoder.begin(flight.spec, flight.checkpoint)
        flight.fare.board(self._clock() - began)

    def _finish_restored(self) -> None:
        """Renders that came with all their passes done go straight to their pixels."""
        with self._changed:
            restored, self._restored = self._restored, []
        for flight in restored:
            self._announce_alone(flight)
            if not self._has_begun(flight):
                continue
            if flight.complete:
                finish = self._finisher.submit(self._finish, flight)
                if flight.spec.alone:
                    finish.result()  # no pass beside it
            else:
                with self._changed:
                    self._scheduler.join(flight)

    def _advance(self, flights: Sequence[Flight]) -> None:
        """One pass. When it raises, each render tries it alone from its last good state, so that
        a poison render fails and its neighbours do not notice."""
        if not flights:
            return
        try:
            self._timed_step(flights)
        except Exception:
            logger.exception("a pass of %d renders raised; trying each alone", len(flights))
            for flight in flights:
                self._advance_alone(flight)

    def _advance_alone(self, flight: Flight) -> None:
        try:
            self._begin(flight)
            self._timed_step([flight])
        except Exception as error:
            logger.exception("render %s fails", flight.spec.render_id)
            self._fail(flight, error)

    def _timed_step(self, flights: Sequence[Flight]) -> None:
        began = self._clock()
        with self._working("pass"):
            self._decoder.step([flight.drawn for flight in flights])
        took = self._clock() - began
        for flight in flights:
            flight.pass_seconds, flight.batch_width = took, len(flights)
            flight.fare.ride(took, len(flights))

    def _report(self, flight: Flight) -> None:
        """After a pass: checkpoint and preview out; after the last one, on to the pixels."""
        if flight.ended:
            return
        try:
            flight.checkpoint = self._decoder.checkpoint(flight.drawn)
        except Exception as error:
            logger.exception("render %s cannot be checkpointed", flight.spec.render_id)
            self._fail(flight, error)
            return
        preview = self._preview(flight)
        if flight.asked_to_leave and not flight.complete:
            with self._changed:
                self._tell(flight, UpdateKind.LEFT, preview=preview)
                self._end(flight)
            return
        self._tell(flight, UpdateKind.PASS, preview=preview)
        if flight.complete and not flight.ended:
            self._finisher.submit(self._finish, flight)

    def _preview(self, flight: Flight) -> Pixels | None:
        """A preview that cannot be drawn is missed, but does not cost the picture."""
        if flight.complete or flight.pass_no not in flight.spec.preview_after:
            return None
        try:
            return self._decoder.preview(flight.drawn)
        except Exception:
            logger.exception("render %s has no preview", flight.spec.render_id)
            return None

    def _finish(self, flight: Flight) -> None:
        """Tokens to pixels, on the finishing thread; the slot has been free since the last pass."""
        if flight.ended:
            return
        try:
            with self._working("pixels"):
                pixels = self._decoder.finish(flight.drawn)
        except Exception as error:
            logger.exception("render %s cannot be finished", flight.spec.render_id)
            self._fail(flight, error)
            return
        with self._changed:
            self._tell(flight, UpdateKind.DONE, pixels=pixels)
            self._end(flight)

    def _fail(self, flight: Flight, error: Exception) -> None:
        rejected = isinstance(error, RenderRejected)
        text = str(error) if rejected else f"{type(error).__name__}: {error}"
        with self._changed:
            self._tell(flight, UpdateKind.FAILED, error=text, rejected=rejected)
            self._end(flight)

    def _end(self, flight: Flight) -> None:
        """Under the lock: say nothing more about this render and forget it."""
        flight.ended = True
        if self._flights.get(flight.spec.render_id) is flight:
            del self._flights[flight.spec.render_id]
            if not self._flights:
                self.last_step_at = self._clock()
        self._changed.notify_all()

    def _tell(
        self,
        flight: Flight,
        kind: UpdateKind,
        preview: Pixels | None = None,
        pixels: Pixels | None = None,
        error: str | None = None,
        rejected: bool = False,
    ) -> None:
        update = flight.update(kind, self._scheduler.slots_max, preview, pixels, error, rejected)
        with self._changed:
            if not flight.ended:
                self._hand_on(flight, update)

    def _hand_on(self, flight: Flight, update: RenderUpdate) -> None:
        """A listener that raises has gone away: its render is dropped, the others go on."""
        try:
            self._emit(update)
        except Exception:
            logger.exception("nobody takes the updates of render %s", update.render_id)
            self._end(flight)


def _alone_first(batch: tuple[Flight, ...]) -> tuple[Flight, ...]:
    """Those that share the next pass; one that is to be tried alone shares its first with none."""
    for flight in batch:
        if not flight.announced:
            return (flight,)
    return batch
