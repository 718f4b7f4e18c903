"""Decoder replicas inside this process: for tests, benches and tools that run without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from engine.decoder import Decoder
from engine.passes import Passed
from engine.streams import RenderStreams


class InProcessReplica(RenderStreams):
    """One engine as a replica. See dispatch.ports.Slot: all its slots are this object."""

    def __init__(
        self,
        decoder: Decoder,
        slots: int,
        reservations: int | None = None,
        *,
        full_wait_seconds: float = 1.0,
        passed: Passed | None = None,
    ) -> None:
        """reservations: how many calls are let in at once, as many as slots by default. Updates
        are not throttled: no message is sent."""
        super().__init__(
            decoder,
            slots,
            full_wait_seconds=full_wait_seconds,
            update_seconds=0.0,
            passed=passed,
        )
        self.replica_id, self.node = f"replica {id(self):x}", ""
        self.reservations = reservations or slots
        self.reserved = 0

    @property
    def available(self) -> bool:
        """Whether one more call is let in."""
        return self.reserved < self.reservations and self.engine.admitting


R = TypeVar("R", bound=InProcessReplica)


class InProcessDecoders(Generic[R]):
    """See dispatch.ports.Decoders: the first replica with room gets the call."""

    def __init__(self, *replicas: R) -> None:
        self.replicas = list(replicas)
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[R]:
        """See Decoders."""
        async with self._changed:
            replica = (await self._changed.wait_for(self._available))[0]
            replica.reserved += 1
        try:
            yield replica
        finally:
            async with self._changed:
                replica.reserved -= 1
                self._changed.notify_all()

    async def leave(self, render_ids: Sequence[str]) -> None:
        """See Decoders."""
        for replica in self.replicas:
            replica.leave(render_ids)

    async def add(self, replica: R) -> None:
        """One more replica."""
        async with self._changed:
            self.replicas.append(replica)
            self._changed.notify_all()

    async def close(self) -> None:
        """Stop every engine."""
        for replica in self.replicas:
            await replica.close()

    def _available(self) -> list[R]:
        return [replica for replica in self.replicas if replica.available]
