"""A lane's heat, read once a second however often it is asked for."""

from __future__ import annotations

import asyncio
import time

from autoscaling.heat import Heat, HeatMeter
from jobs.client.async_ledger import AsyncQueueReads
from jobs.ledger_errors import LedgerUnavailable

FRESH_SECONDS = 1.0


class LaneHeat:
    """The heat of one lane, by its ledger. For one event loop."""

    def __init__(self, ledger: AsyncQueueReads, lane: str) -> None:
        self._ledger = ledger
        self._lane = lane
        self._meter = HeatMeter()
        self._reading = asyncio.Lock()
        self._answer: Heat | LedgerUnavailable | None = None
        self._read_at = 0.0

    async def now(self) -> Heat:
        """At most FRESH_SECONDS old. A LedgerUnavailable is kept and raised for as long."""
        async with self._reading:
            if self._answer is None or time.monotonic() - self._read_at >= FRESH_SECONDS:
                self._answer = await self._read()
                self._read_at = time.monotonic()
        if isinstance(self._answer, LedgerUnavailable):
            raise LedgerUnavailable(str(self._answer))
        return self._answer

    async def _read(self) -> Heat | LedgerUnavailable:
        try:
            return self._meter.read(await self._ledger.depth(self._lane))
        except LedgerUnavailable as error:
            return error


class QueueHeats:
    """The heat of each queue that is asked for."""

    def __init__(self, ledger: AsyncQueueReads) -> None:
        self._ledger = ledger
        self._queues: dict[str, LaneHeat] = {}

    def of(self, queue: str) -> LaneHeat:
        """One that lasts, because a trend needs several readings."""
        return self._queues.setdefault(queue, LaneHeat(self._ledger, queue))
