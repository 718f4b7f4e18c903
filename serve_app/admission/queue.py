"""Who may write to the ledger next: a limited number at a time, the others in a fair line.

The line has the order of the ledger's own queue: each tenant's requests in order of arrival, the
tenants in turn, one of a tier with four times the weight four times as often (virtual finish
times). So neither a crowd nor one tenant's thousand requests stand between somebody else and the
ledger.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serve_app.admission.vegas import Vegas

MOST_WAITING = 10_000
MOST_BYTES = 64 * 2**20
"""What waits is bounded because memory is, and far beyond what a client would wait for. No tenant
takes more of what is free than it leaves: who comes after a crowd of one finds room, too."""

_Place = tuple[float, int, str, int, asyncio.Future[None]]
"""(stamp, number, tenant, bytes, its turn)."""


class LineFull(Exception):
    """Nobody more can wait here."""


class AcceptLine:
    """One gateway's. For one event loop."""

    def __init__(self, limit: Vegas | None = None, most: int = MOST_WAITING) -> None:
        self._limit = limit or Vegas()
        self._most = most
        self._inside = 0
        self._line: list[_Place] = []  # a heap; who left it stays until its turn comes
        self._bytes = 0
        self._places: Counter[str] = Counter()  # of each tenant in the line
        self._sizes: Counter[str] = Counter()  # and their bytes
        self._stamps: dict[str, float] = {}  # of the last in the line of each tenant
        self._now = 0.0  # in virtual time: the stamp of the last who was let in
        self._number = 0

    def __len__(self) -> int:
        return len(self._line)

    @asynccontextmanager
    async def place(self, tenant: str, weight: float, size_bytes: int) -> AsyncIterator[None]:
        """Inside, when it is the tenant's turn. Raises LineFull: for this tenant."""
        if self._line or not self._room():
            await self._wait(tenant, weight, size_bytes)
        else:
            self._inside += 1
        began = time.monotonic()
        try:
            yield
            self._limit.stayed(time.monotonic() - began, self._inside - 1)
        finally:
            self._inside -= 1
            self._let_in()

    def _room(self) -> bool:
        return self._inside < int(self._limit.limit)

    async def _wait(self, tenant: str, weight: float, size_bytes: int) -> None:
        places, size = self._places[tenant] + 1, self._sizes[tenant] + size_bytes
        if places > self._most - len(self._line) or size > MOST_BYTES - self._bytes:
            raise LineFull
        self._number += 1
        stamp = max(self._now, self._stamps.get(tenant, 0.0)) + 1 / weight
        turn = asyncio.get_running_loop().create_future()
        self._stamps[tenant] = stamp
        self._places[tenant], self._sizes[tenant] = places, size
        self._bytes += size_bytes
        heapq.heappush(self._line, (stamp, self._number, tenant, size_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # its turn had come already: somebody else's now
                self._inside -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._line and self._room():
            stamp, _, tenant, size_bytes, turn = heapq.heappop(self._line)
            self._bytes -= size_bytes
            self._places[tenant] -= 1
            self._sizes[tenant] -= size_bytes
            self._now = stamp
            if self._stamps[tenant] == stamp:  # its last
                del self._stamps[tenant], self._places[tenant], self._sizes[tenant]
            if not turn.cancelled():
                self._inside += 1
                turn.set_result(None)
