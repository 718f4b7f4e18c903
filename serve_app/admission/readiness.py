"""Whether the ledger answers, for any number of probes: it is asked once a second."""

from __future__ import annotations

import asyncio
import time

from jobs.client.async_ledger import AsyncJobReads
from jobs.ledger_errors import LedgerError
from serve_app.wire.errors import Unavailable

FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 2.0


class Readiness:
    """Of one gateway, on its event loop."""

    def __init__(self, ledger: AsyncJobReads) -> None:
        self._ledger = ledger
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")

    async def check(self) -> None:
        """Return when the ledger answers, or did within the last second. Raises Unavailable."""
        now = time.monotonic()
        fresh = now - self._asked_at < FRESH_SECONDS
        if self._asking is None or (self._asking.done() and not fresh):
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask())
        try:
            await asyncio.shield(self._asking)
        except (LedgerError, TimeoutError):
            raise Unavailable from None

    async def _ask(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._ledger.get("none")
