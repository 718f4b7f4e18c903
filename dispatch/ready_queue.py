"""The ready queue: prepared images that wait for a slot, in the order of their claims; those of
batches behind all others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from dispatch.in_flight import InFlightRender, State


class ReadyQueue:
    """Of one dispatcher. An image that is not ready any more is skipped, and forgotten with the
    next look."""

    def __init__(self, came: Callable[[InFlightRender], None]) -> None:
        """came: hears of each image that is ready."""
        self._came = came
        self._renders: deque[InFlightRender] = deque()
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Without those of overdue jobs."""
        return sum(render.lease.overdue_since is None for render in self._ready())

    def put(
        self, render: InFlightRender, after_seconds: float = 0.0, *, first: bool = False
    ) -> None:
        """At the end, or in front when it comes back from a lost or full replica; at once, or
        after a pause."""
        if after_seconds:
            render.pause()
            asyncio.get_running_loop().call_later(after_seconds, self._resume, render, first)
            return
        render.queue()
        if first:
            self._ready().appendleft(render)
        else:
            self._ready().append(render)
        self._filled.set()
        self._came(render)

    def take(self) -> InFlightRender | None:
        """The next one, or None."""
        ready = self._ready()
        found = next((one for one in ready if not one.lease.job.request.in_batch), None)
        if found is None:
            return ready.popleft() if ready else None
        ready.remove(found)
        return found

    async def filled(self) -> None:
        """Return once something is here."""
        while not self._ready():
            self._filled.clear()
            await self._filled.wait()

    def _resume(self, render: InFlightRender, first: bool) -> None:
        if render.state is State.PAUSED:  # and not settled, preempted or dropped meanwhile
            self.put(render, first=first)

    def _ready(self) -> deque[InFlightRender]:
        ready = (render for render in self._renders if render.state is State.READY)
        self._renders = deque(render for render in ready if not render.lease.preempting)
        return self._renders
