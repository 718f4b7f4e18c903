"""The async front of a DecoderEngine: the updates of each render as a stream on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

from engine.decoder import Decoder
from engine.engine import DecoderEngine
from engine.passes import Passed
from engine.render import LAST, RenderSpec, RenderUpdate, UpdateKind

UPDATE_SECONDS = 0.5
"""Default interval of routine updates, half a heartbeat: each of a fast decoder would cost more
than its pass. What is held back, and drawn again if this process dies at once, is less than that
much work."""


class RenderStreams:
    """One engine on its own thread, and the streams of its updates on the running event loop."""

    def __init__(
        self,
        decoder: Decoder,
        slots: int,
        *,
        full_wait_seconds: float = 1.0,
        update_seconds: float = UPDATE_SECONDS,
        passed: Passed | None = None,
        joules: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """full_wait_seconds: how long the engine holds a render before it is told `full`: a slot
        about to be free is worth more than a call elsewhere. update_seconds: between routine
        updates of a render; 0.0 for all of them. passed, joules: see DecoderEngine."""
        self._full_wait_seconds = full_wait_seconds
        self._update_seconds = update_seconds
        self._loop = asyncio.get_running_loop()
        self._inboxes: dict[str, asyncio.Queue[RenderUpdate | None]] = {}
        self.engine = DecoderEngine(decoder, slots, self._emit, passed=passed, joules=joules)
        self.engine.start()

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """ACCEPTED or FULL first, then PASS as often as throttled, then LEFT, DONE or FAILED.
        Closing the stream aborts the render at the next pass boundary."""
        inbox = self._inboxes[spec.render_id] = asyncio.Queue()
        sent_at = saved_at = self._loop.time() - self._update_seconds  # the first pass is news
        self.engine.add(spec, hold=True)
        patience = self._loop.call_later(
            self._full_wait_seconds, self.engine.let_go, spec.render_id
        )
        try:
            while (update := await inbox.get()) is not None:
                now, saved = self._loop.time(), update.checkpoint is not None
                since = now - (saved_at if saved else sent_at)
                if is_throttled(update, since, self._update_seconds):
                    continue
                sent_at, saved_at = now, now if saved else saved_at
                yield update
                if update.kind in LAST:
                    return
        finally:
            patience.cancel()
            del self._inboxes[spec.render_id]
            self.engine.abort(spec.render_id)

    def leave(self, render_ids: Iterable[str]) -> None:
        """Those that are here leave at the next pass boundary; LEFT is their last update."""
        for render_id in render_ids:
            self.engine.leave(render_id)

    def hand_on(self, within_seconds: float) -> tuple[int, int]:
        """See DecoderEngine: what is not done by then goes on elsewhere. Calls are told `full`, and
        at once."""
        return self.engine.hand_on(within_seconds)

    def end(self) -> None:
        """End every open stream without a last update."""
        for inbox in self._inboxes.values():
            inbox.put_nowait(None)

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Take no more renders in, give those in flight that long, and stop the engine. Those with
        passes since their checkpoint send one, as LEFT; the streams of others just end."""
        await asyncio.to_thread(self.engine.drain, grace_seconds)
        await asyncio.to_thread(self.engine.stop)
        self.end()

    def _emit(self, update: RenderUpdate) -> None:
        """Called on the engine's threads: hand over and return."""
        self._loop.call_soon_threadsafe(self._deliver, update)

    def _deliver(self, update: RenderUpdate) -> None:
        inbox = self._inboxes.get(update.render_id)
        if inbox is not None:
            inbox.put_nowait(update)


def is_throttled(update: RenderUpdate, since_sent_seconds: float, interval_seconds: float) -> bool:
    """Whether a routine update comes too soon after the last one: a pass in the middle, without a
    preview, that the next one replaces. since_sent_seconds: of one with a checkpoint, since the
    last with one, because those without replace none."""
    routine = update.kind is UpdateKind.PASS and update.preview is None and not update.decoded
    return routine and since_sent_seconds < interval_seconds
