"""Threads that own the ledger's calls, so that an event loop never waits for a disk.

LedgerThread gathers what has arrived and runs it as one batch: many writers share one fsync.
Changes wakes calls that wait for a write: one thread per process waits for one, only while a call
does.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from jobs.depth import QueueEstimate
from jobs.ledger import JobReads, Ledger
from jobs.ledger_errors import LedgerError, LedgerUnavailable

_log = logging.getLogger(__name__)
SUBMITS = "tenant "
"""Before the tenant in the `rows` of a submit."""
_WRITES_MAX = 64
_READS_MAX = 2000
# Beside the time that the last commit took, which gathers by itself: callers that shared it are
# about to ask again. So wait for as many, as long as they arrive less than a pause apart, and no
# longer than the window.
_PAUSE_SECONDS = 0.001
_WINDOW_SECONDS = 0.004
_GATHER_SECONDS = 0.01
"""Between two looks: several writes wake a call once."""
_SAFETY_SECONDS = 0.1
"""Between two looks while no write is heard of."""
_ERROR_PAUSE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Call:
    """One call on its way to a thread. run: the ledger's verb with its arguments.

    durable: its caller must not be answered before an fsync. job_id: set for a plain `get`, and
    estimate_of for an `estimate`, which are read together. Only a `get` that found nothing is run.
    rows: names those that it keeps from others until its batch has ended.
    """

    run: Callable[[], Any]
    durable: bool = True
    job_id: str | None = None
    estimate_of: str | None = None
    rows: str = ""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    answer: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


Batch = Callable[[Sequence[Call]], Sequence[Any]]


class LedgerThread:
    """Runs calls in order of arrival, a batch at a time, and answers each on its own event loop."""

    def __init__(self, name: str, run: Batch, *, gather: bool) -> None:
        self._run = run
        self._gather = gather
        self._expected = 0
        self._arrivals: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def ask(
        self,
        run: Callable[[], Any],
        *,
        durable: bool = True,
        job_id: str | None = None,
        estimate_of: str | None = None,
        rows: str = "",
    ) -> asyncio.Future[Any]:
        """The result of `run`, called on this thread; await it. A call that was started is finished
        even if its caller goes away."""
        call = Call(run, durable, job_id, estimate_of, rows)
        with self._closing:  # so that nothing arrives behind the end
            if self._closed:
                raise LedgerUnavailable("the ledger is closed")
            self._arrivals.put(call)
        return call.answer

    def close(self) -> None:
        """Finish what has arrived, then stop."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._arrivals.put(None)
        self._thread.join()

    def _serve(self) -> None:
        more = True
        while more:
            batch, more = self._next_batch()
            if not batch:
                continue
            try:
                results = self._run(batch)
            except Exception as error:  # noqa: BLE001 - it belongs to the callers
                results = [error] * len(batch)
            _deliver(batch, results)

    def _next_batch(self) -> tuple[list[Call], bool]:
        batch: list[Call] = []
        closes_at = float("inf")
        while len(batch) < (_WRITES_MAX if self._gather else _READS_MAX):
            try:
                call = self._arrivals.get(block=not batch)
            except queue.Empty:
                if len(batch) >= self._expected or time.monotonic() > closes_at:
                    break
                try:
                    call = self._arrivals.get(timeout=_PAUSE_SECONDS)
                except queue.Empty:
                    break
            if call is None:
                return batch, False
            if not batch:
                closes_at = time.monotonic() + _WINDOW_SECONDS
            batch.append(call)
        if self._gather:
            self._expected = len(batch)
        return batch, True


def write_batch(ledger: Ledger) -> Batch:
    """One transaction for all submits of the batch and one for the others; a lone call needs no
    savepoint.

    Calls run in the order of the rows that they keep, and a submit, which keeps its tenant's, not
    beside a cancel, which may give back another tenant's quota: of two processes that need the same
    rows one waits for the other, and neither for both.
    """

    def run(batch: Sequence[Call]) -> Sequence[Any]:
        order = sorted(range(len(batch)), key=lambda place: batch[place].rows)
        results: dict[int, Any] = {}
        for _, part in groupby(order, lambda place: batch[place].rows.startswith(SUBMITS)):
            places = list(part)
            calls = [batch[place] for place in places]
            try:
                if len(calls) == 1:
                    found = [calls[0].run()]
                else:
                    durable = any(call.durable for call in calls)
                    found = ledger.together([call.run for call in calls], durable=durable)
            except Exception as error:  # noqa: BLE001 - it belongs to the callers
                found = [error] * len(calls)
            results |= zip(places, found, strict=True)
        return [results[place] for place in range(len(batch))]

    return run


def read_batch(ledger: Ledger) -> Batch:
    """`get`s that arrived together become one query, and so do `estimate`s: many watchers wake at
    the same time."""

    def run(batch: Sequence[Call]) -> Sequence[Any]:
        ids = list(dict.fromkeys(call.job_id for call in batch if call.job_id is not None))
        jobs = {job.id: job for job in ledger.get_many(ids)} if ids else {}
        wanted = list(dict.fromkeys(c.estimate_of for c in batch if c.estimate_of is not None))
        estimates = ledger.estimates(wanted) if wanted else {}

        def answer(call: Call) -> Any:
            if call.job_id in jobs:
                return jobs[call.job_id]
            if call.estimate_of is not None:
                return estimates.get(call.estimate_of, QueueEstimate())
            return _outcome(call.run)

        return [answer(call) for call in batch]

    return run


def _outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - it belongs to the caller
        return error


def _deliver(batch: Sequence[Call], results: Sequence[Any]) -> None:
    answers: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for call, result in zip(batch, results, strict=True):
        answers.setdefault(call.loop, []).append((call.answer, result))
    for loop, pairs in answers.items():
        try:
            loop.call_soon_threadsafe(_answer, pairs)
        except RuntimeError:
            _log.debug("an event loop closed before its ledger calls were answered")


def _answer(pairs: Sequence[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


@dataclass(frozen=True, slots=True)
class _Waiter:
    seen: int
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Future[None]


class Changes:
    """Shares one wait for a write among all waiting calls, on any number of event loops."""

    def __init__(self, ledger: JobReads) -> None:
        self._ledger = ledger
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
            if seen < self._latest:
                return self._latest
            self._waiters.append(_Waiter(seen, loop, woken))
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
        self._ledger.interrupt()
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
            version = self._ledger.changed(self._latest, _SAFETY_SECONDS)
        except LedgerError:
            time.sleep(_ERROR_PAUSE_SECONDS)  # waiting calls have timeouts
            return
        with self._news:
            news, self._latest = version != self._latest, version
            live = [w for w in self._waiters if not w.woken.done()]
            self._waiters = [w for w in live if w.seen == version]
        self._wake_all([w for w in live if w.seen != version])
        if news:
            time.sleep(_GATHER_SECONDS)

    def _wake_all(self, waiters: list[_Waiter]) -> None:
        for waiter in waiters:
            try:
                waiter.loop.call_soon_threadsafe(_wake, waiter.woken)
            except RuntimeError:
                _log.debug("an event loop closed while it waited for the ledger")


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
