"""The ledger's keys as a gateway knows them, good and bad, and what wrong ones may cost it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Generic, TypeVar

from jobs.client.async_ledger import AsyncLedger
from jobs.ledger import LedgerError, LedgerUnavailable
from jobs.request import Tenant
from serve_app.wire.errors import TooManyRequests

log = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""How long a change of a key may take to be seen."""
REMEMBERED_KEYS = 100_000
REMEMBERED_WRONG = 100_000
"""Hashes of keys that are none: a wrong key is looked up once."""
PAUSE_SECONDS = 0.1
"""Keys from addresses that sent too many wrong ones wait for each other so long: ten look-ups a
second, whatever comes."""
MOST_TOGETHER = 500

T = TypeVar("T")
Found = tuple[Tenant | None, int]
"""Whose key it is, and the revision of the keys that says so."""


class LedgerKeys:
    """The ledger's keys that were asked for, for as long as no key has changed.

    While the ledger is away, who is known stays known.
    """

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._known: _Newest[Tenant] = _Newest(REMEMBERED_KEYS)
        self._wrong: _Newest[None] = _Newest(REMEMBERED_WRONG)
        self._together = _Together(ledger)
        self._revision = -1
        self._looked_at = float("-inf")

    async def owner(self, hashed: str, *, suspect: bool) -> Tenant | None:
        """Whose key that is, or None. suspect: its address has sent too many wrong ones, so that a
        key that was not seen yet is looked up together with others. Raises LedgerUnavailable for
        one that was never seen, and TooManyRequests when too many suspects wait."""
        await self._look()
        if (tenant := self._known.get(hashed)) is not None:
            return tenant
        if hashed in self._wrong:
            return None
        ask = self._together.owner if suspect else self._ledger.key_owner
        tenant, revision = await ask(hashed)
        if revision > self._revision:
            self._forget(revision)
        if revision == self._revision:  # else a change came meanwhile: this may be old by now
            if tenant is None:
                self._wrong.put(hashed, None)
            else:
                self._known.put(hashed, tenant)
        return tenant

    async def _look(self) -> None:
        """Forget everything when any key has changed; asks at most every FRESH_SECONDS."""
        now = time.monotonic()
        if now - self._looked_at < FRESH_SECONDS:
            return
        self._looked_at = now
        try:
            revision = await self._ledger.keys_revision()
        except LedgerUnavailable as error:
            log.warning("the ledger is away, known keys stay known: %s", error)
            return
        if revision != self._revision:
            self._forget(revision)

    def _forget(self, revision: int) -> None:
        self._known.clear()
        self._wrong.clear()
        self._revision = revision


class _Together:
    """Look-ups that wait for each other: one question to the ledger for all that came meanwhile."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger
        self._waiting: dict[str, asyncio.Future[Found]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def owner(self, hashed: str) -> Found:
        """As AsyncLedger.key_owner. Raises TooManyRequests, too."""
        if hashed not in self._waiting:
            if len(self._waiting) >= MOST_TOGETHER:
                message = "Too many unknown keys came from your address. Try again in 1 s."
                raise TooManyRequests(message, headers={"retry-after": "1"})
            if not self._waiting:
                task = asyncio.create_task(self._ask())
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            self._waiting[hashed] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._waiting[hashed])

    async def _ask(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        asked, self._waiting = self._waiting, {}
        try:
            owners, revision = await self._ledger.key_owners(list(asked))
        except LedgerError as error:
            for future in asked.values():
                future.set_exception(error)
                future.exception()  # the caller may have left
            return
        for hashed, future in asked.items():
            future.set_result((owners.get(hashed), revision))


class _Newest(OrderedDict[str, T], Generic[T]):
    """The `most` entries that were last put in."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def put(self, key: str, value: T) -> None:
        """Add one, and drop the oldest when there are too many."""
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)
