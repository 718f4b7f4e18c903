"""Wake-ups: one thread per process polls the ledger's version, only while a call waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.ledger_errors import LedgerError

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.01
_ERROR_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class _Waiter:
    seen: int
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Future[None]


class Changes:
    """Shares one poll of `version` among all waiting calls, on any number of event loops."""

    def __init__(self, version: Callable[[], int]) -> None:
        self._version = version
        self._latest = -1
        self._waiters: list[_Waiter] = []
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._poll, name="ledger-changes", daemon=True)
        self._thread.start()

    async def wait(self, seen: int, timeout_seconds: float) -> int:
        """Return the version once it is not `seen`, or on timeout."""
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        with self._news:
            waiter = _Waiter(seen, loop, woken)
            self._waiters.append(waiter)
            self._news.notify()
        timer = loop.call_later(timeout_seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            woken.cancel()
        return self._latest

    def close(self) -> None:
        """Stop the thread; waiting calls are woken."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()
        self._wake_all(self._waiters)

    def _poll(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiters or self._closed)
                if self._closed:
                    return
            self._look()

    def _look(self) -> None:
        try:
            version = self._version()
        except LedgerError:
            time.sleep(_ERROR_PAUSE_SECONDS)  # waiting calls have timeouts
            return
        with self._news:
            self._latest = version
            live = [w for w in self._waiters if not w.woken.done()]
            self._waiters = [w for w in live if w.seen == version]
        self._wake_all([w for w in live if w.seen != version])
        time.sleep(_POLL_SECONDS)

    def _wake_all(self, waiters: list[_Waiter]) -> None:
        for waiter in waiters:
            try:
                waiter.loop.call_soon_threadsafe(_wake, waiter.woken)
            except RuntimeError:
                _log.debug("an event loop closed while it waited for the ledger")


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
