"""The stages of one lane in one process: a real engine behind the decoder port, and an encoder,
screens and a store that take no time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from engine.decoders.paced import PacedDecoder
from engine.engine import DecoderEngine
from engine.render import Conditioning, RenderSpec, RenderUpdate, UpdateKind
from engine.verdict import Verdict
from jobs.request import ImageRequest

_BOUNDARY_SECONDS = 0.002
_LAST = (UpdateKind.LEFT, UpdateKind.DONE, UpdateKind.FAILED)
_WORDS = Conditioning(np.zeros((1, 384), np.float16), np.zeros(384, np.float16))


class Slots:
    """The decoder port over one engine. As at a replica, a call that comes too early waits for the
    next pass boundary."""

    replica_id = "here"

    def __init__(self, slots: int, pass_ms: float, per_row_ms: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._inboxes: dict[str, asyncio.Queue[RenderUpdate]] = {}
        self._free = asyncio.Semaphore(slots)
        self._engine = DecoderEngine(PacedDecoder(pass_ms, per_row_ms), slots, self._emit)
        self._engine.start()

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[Slots]:
        """See Decoders."""
        async with self._free:
            yield self

    async def leave(self, render_ids: Sequence[str]) -> None:
        """See Decoders."""
        for render_id in render_ids:
            self._engine.leave(render_id)

    async def render(self, order: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See Slot."""
        inbox = self._inboxes[order.render_id] = asyncio.Queue()
        spec = RenderSpec(**{name: getattr(order, name) for name in RenderSpec.__slots__})
        try:
            while not self._engine.add(spec):  # one that was stopped leaves at the boundary
                await inbox.get()
                await asyncio.sleep(_BOUNDARY_SECONDS)
            while True:
                update = await inbox.get()
                yield update
                if update.kind in _LAST:
                    return
        finally:
            del self._inboxes[order.render_id]
            self._engine.abort(order.render_id)

    def _emit(self, update: RenderUpdate) -> None:
        self._loop.call_soon_threadsafe(self._deliver, update)

    def _deliver(self, update: RenderUpdate) -> None:
        if (inbox := self._inboxes.get(update.render_id)) is not None:
            inbox.put_nowait(update)


class Instant:
    """Encoder, classifier and postprocessor in one that take no time and find no harm."""

    async def encode(self, *_: Any) -> Any:
        """See Encoder and Postprocessor."""
        return _WORDS

    async def screen_prompt(self, prompt: str, conditioning: object) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def screen_image(self, pixels: object, moderation: str) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """See Postprocessor."""


def wish(**fields: Any) -> ImageRequest:
    """A request for one image that nobody watches."""
    plain: dict[str, Any] = {
        "model": "paced", "prompt": "a red fox", "n": 1, "width": 128, "height": 128,
        "quality": "auto", "guidance": 2.0, "seed": 7, "watched": False,
    }  # fmt: skip
    return ImageRequest(**(plain | fields))
