"""The cluster's nodes as one gateway sees them, asked only while operators ask."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from autoscaling.capacity import ClusterNode

log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
WAIT_SECONDS = 3.0


class ClusterLook:
    """For one event loop."""

    def __init__(self, ask: Callable[[], Sequence[ClusterNode]] | None) -> None:
        """ask: blocks, and may raise whatever the cluster does; None: there is no cluster."""
        self._ask = ask
        self._asking: asyncio.Task[Sequence[ClusterNode]] | None = None
        self._asked_at = 0.0

    async def now(self) -> Sequence[ClusterNode] | None:
        """A few seconds old at most; None: not known. A call that hangs is waited for by the next
        one, not made again."""
        if self._ask is None:
            return None
        now = time.monotonic()
        done = self._asking is None or self._asking.done()
        if self._asking is None or (done and now - self._asked_at > FRESH_SECONDS):
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
            self._asked_at = now
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await asyncio.shield(self._asking)
        except Exception as error:  # noqa: BLE001 - Ray raises many while its head is away
            log.info("nodes are not known: %r", error)
            return None
