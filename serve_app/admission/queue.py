"""The admission queue before the ledger: an adaptive concurrency limit, and weighted fair queueing.

It has the order of the ledger's own queue: a tenant's requests in order of arrival, tenants in
turn, those of a tier with four times the weight four times as often (virtual finish times). So
neither many tenants nor one with a thousand requests stand between another one and the ledger.

The limit is that of TCP Vegas, as in Netflix's concurrency-limits. The lowest mean latency is that
of a service in which no request waits for another, so `limit * (1 - lowest / mean)` of the requests
in flight only wait: a few of them keep the service busy, more are better off in the queue.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.wire.errors import TooManyWaiting

LEAST, MOST = 16, 512
WINDOW = 32
"""Latencies of which the mean is taken, at least: a single one tells more of the machine."""
WAITING = 12.0
"""Requests that should wait in flight: fewer leave the service idle at times, more only wait."""
PROBE_WINDOWS = 100
"""Then the lowest latency is forgotten and the limit halved, to measure it again: a service may
have become slower or faster for good."""
MOST_WAITING = 10_000
MOST_BYTES = 64 * 2**20
"""What waits is bounded because memory is, and far beyond what a client would wait for. No tenant
takes more of what is free than it leaves to others."""

_Entry = tuple[float, int, str, int, asyncio.Future[None]]
"""(virtual finish time, number, tenant, bytes, set when it is admitted)."""


class VegasLimit:
    """`limit`: whole or not, between LEAST and MOST. Pure."""

    def __init__(self, limit: float = 32.0) -> None:
        self.limit = limit
        self._lowest = math.inf
        self._windows = 0
        self._seconds, self._count, self._full = 0.0, 0, False

    def observe(self, seconds: float, others: int) -> None:
        """A request took so long, and others were in flight when it ended."""
        self._seconds += seconds
        self._count += 1
        self._full = self._full or others + 1 >= int(self.limit)
        if self._count >= max(WINDOW, self.limit):
            self._adapt(self._seconds / self._count, self._full)
            self._seconds, self._count, self._full = 0.0, 0, False

    def _adapt(self, mean: float, full: bool) -> None:
        self._windows += 1
        if self._windows % PROBE_WINDOWS == 0:
            self._lowest = math.inf
            self.limit = max(LEAST, self.limit / 2)
            return
        self._lowest = min(self._lowest, mean)
        waiting = self.limit * (1 - self._lowest / mean) if mean > 0 else 0.0
        step = max(WAITING - waiting, -self.limit / 8)
        if step < 0 or full:
            self.limit = min(MOST, max(LEAST, self.limit + step))


class FixedLimit(VegasLimit):
    """So many at a time, whatever their latency."""

    def observe(self, seconds: float, others: int) -> None:
        """Changes nothing."""


class AdmissionQueue:
    """One gateway's. For one event loop."""

    def __init__(self, limit: VegasLimit | None = None, most: int = MOST_WAITING) -> None:
        self._limit = limit or VegasLimit()
        self._most = most
        self._in_flight = 0
        self._queue: list[_Entry] = []  # a heap; a cancelled entry stays until it is popped
        self._bytes = 0
        self._queued: Counter[str] = Counter()  # entries by tenant
        self._sizes: Counter[str] = Counter()  # and their bytes
        self._last: dict[str, float] = {}  # finish time of each tenant's newest entry
        self._now = 0.0  # virtual time: the finish time of the entry admitted last
        self._number = 0

    def __len__(self) -> int:
        return len(self._queue)

    @asynccontextmanager
    async def turn(self, tenant: str, weight: float, size_bytes: int) -> AsyncIterator[None]:
        """Entered when the request is admitted. Raises TooManyWaiting, for this tenant."""
        if self._queue or not self._has_room():
            await self._wait(tenant, weight, size_bytes)
        else:
            self._in_flight += 1
        began = time.monotonic()
        try:
            yield
            self._limit.observe(time.monotonic() - began, self._in_flight - 1)
        finally:
            self._in_flight -= 1
            self._admit()

    def _has_room(self) -> bool:
        return self._in_flight < int(self._limit.limit)

    async def _wait(self, tenant: str, weight: float, size_bytes: int) -> None:
        queued, size = self._queued[tenant] + 1, self._sizes[tenant] + size_bytes
        if queued > self._most - len(self._queue) or size > MOST_BYTES - self._bytes:
            raise TooManyWaiting
        self._number += 1
        finish = max(self._now, self._last.get(tenant, 0.0)) + 1 / weight
        admitted = asyncio.get_running_loop().create_future()
        self._last[tenant] = finish
        self._queued[tenant], self._sizes[tenant] = queued, size
        self._bytes += size_bytes
        heapq.heappush(self._queue, (finish, self._number, tenant, size_bytes, admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # admitted just before: the next entry takes its place
                self._in_flight -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._queue and self._has_room():
            finish, _, tenant, size_bytes, admitted = heapq.heappop(self._queue)
            self._bytes -= size_bytes
            self._queued[tenant] -= 1
            self._sizes[tenant] -= size_bytes
            self._now = finish
            if self._last[tenant] == finish:  # its newest
                del self._last[tenant], self._queued[tenant], self._sizes[tenant]
            if not admitted.cancelled():
                self._in_flight += 1
                admitted.set_result(None)
