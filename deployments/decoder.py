"""A decoder replica: one DecoderEngine on its own thread, and an async front for it.

It holds no database credentials and knows no jobs. The engine alone owns the slots.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from deployments import loopback
from deployments.slots import LeakedSlots
from engine.engine import DecoderEngine
from engine.registry import create_decoder
from engine.render import RenderSpec, RenderUpdate, UpdateKind
from engine.telling import worth_telling

loopback.install()

log = logging.getLogger("ray.serve")

LAST = frozenset({UpdateKind.LEFT, UpdateKind.DONE, UpdateKind.FAILED})


class DecoderReplica:
    """Streams updates of renders.

    slots: renders in the running batch. full_wait_seconds: how long a call that came too early
    waits for a slot before it is told `full`: one about to be free is worth more than a new trip.
    grace_seconds: how long renders may go on after Serve asked this replica to leave.
    stuck_seconds: of one pass, after which this replica is replaced.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        family: str,
        options: dict[str, Any],
        slots: int,
        full_wait_seconds: float = 1.0,
        grace_seconds: float = 30.0,
        stuck_seconds: float = 120.0,
    ) -> None:
        self._stuck_seconds = stuck_seconds
        self._full_wait_seconds = full_wait_seconds
        self._grace_seconds = grace_seconds
        self._loop = asyncio.get_running_loop()
        self._inboxes: dict[str, asyncio.Queue[RenderUpdate]] = {}
        self._boundary = asyncio.Event()
        self._leaked = LeakedSlots(time.monotonic)
        decoder = await asyncio.to_thread(create_decoder, family, **options)
        self._engine = DecoderEngine(decoder, slots, self._emit)
        self._engine.start()
        log.info("decoder family %s is ready with %s slots", family, slots)

    async def render(self, spec: RenderSpec) -> AsyncIterator[RenderUpdate]:
        """ACCEPTED or FULL first, then PASS as far as worth telling, then LEFT, DONE or FAILED.
        Closing the stream aborts the render at the next pass boundary."""
        if not await self._seated(spec):
            yield RenderUpdate(spec.render_id, UpdateKind.FULL)
            return
        inbox, told_at = self._inboxes[spec.render_id], self._loop.time()
        try:
            while True:
                update = await inbox.get()
                if not worth_telling(update, spec.passes, self._loop.time() - told_at):
                    continue
                told_at = self._loop.time()
                yield update
                if update.kind in LAST:
                    return
        finally:
            del self._inboxes[spec.render_id]
            self._engine.abort(spec.render_id)

    async def leave(self, render_ids: Sequence[str]) -> None:
        """Those that are here leave at the next pass boundary; LEFT is their last update."""
        for render_id in render_ids:
            self._engine.leave(render_id)
        self._wake()

    async def _seated(self, spec: RenderSpec) -> bool:
        """Try at every pass boundary until the time is up."""
        deadline = self._loop.time() + self._full_wait_seconds
        while True:
            self._inboxes[spec.render_id] = asyncio.Queue()
            if self._engine.add(spec):
                return True
            del self._inboxes[spec.render_id]
            left = deadline - self._loop.time()
            if left <= 0:
                return False
            try:
                await asyncio.wait_for(self._boundary.wait(), min(left, BOUNDARY_POLL_SECONDS))
            except TimeoutError:
                continue

    def _emit(self, update: RenderUpdate) -> None:
        """Called on the engine's threads: hand over and return."""
        self._loop.call_soon_threadsafe(self._deliver, update)

    def _deliver(self, update: RenderUpdate) -> None:
        inbox = self._inboxes.get(update.render_id)
        if inbox is not None:
            inbox.put_nowait(update)
        if update.kind is not UpdateKind.FULL:  # that one answers a waiting call; it would spin
            self._wake()

    def _wake(self) -> None:
        self._boundary.set()  # everyone who waits now ...
        self._boundary.clear()  # ... and nobody who comes later

    async def check_health(self) -> None:
        """Raises when the engine's thread has died or a pass does not end, so that Serve replaces
        this replica."""
        self._leaked.reclaim()
        if (seconds := self._engine.stuck_seconds) > self._stuck_seconds:
            raise RuntimeError(f"the decoder has been at one pass for {seconds:.0f} s")
        if self._engine.error is not None:
            raise RuntimeError(f"the decoder engine stopped: {self._engine.error}")

    async def __del__(self) -> None:
        """Serve calls this once, after it has stopped sending work here."""
        await asyncio.to_thread(self._engine.drain, self._grace_seconds)
        await asyncio.to_thread(self._engine.stop)


BOUNDARY_POLL_SECONDS = 0.1
"""An abort frees a slot without a word, so waiting calls also look now and then."""
