"""How one verb of a Ledger is awaited: on which of the client's threads, and with which others.

`write`, `read`, `listing` and `apart` make of a verb of a protocol a method with the same arguments
and result. The tables in async_ledger.py consist of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from jobs.client.change_poller import Changes
from jobs.client.ledger_thread import LedgerThread, read_batch, write_batch
from jobs.ledger import Ledger

P = ParamSpec("P")
T = TypeVar("T")
Verb: TypeAlias = Callable[Concatenate[Any, P], T]
Method: TypeAlias = Callable[Concatenate["LedgerThreads", P], Coroutine[Any, Any, T]]


class LedgerThreads:
    """Wraps a Ledger and owns it from then on. Callable from several event loops.

    Writes share a thread and their fsyncs. Reads have a thread of their own and never wait for a
    disk; those of many rows have another one, so that a long list delays no question about one job.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._writes = LedgerThread("ledger-writes", write_batch(ledger), gather=True)
        self._reads = LedgerThread("ledger-reads", read_batch(ledger), gather=False)
        self._lists = LedgerThread("ledger-lists", read_batch(ledger), gather=False)
        self._changes = Changes(ledger.version)

    def close(self) -> None:
        """Finish the writes that have arrived, then close threads and ledger. Blocks shortly."""
        self._changes.close()
        self._writes.close()
        self._reads.close()
        self._lists.close()
        self._ledger.close()


def _nothing(*_: Any, **__: Any) -> str:
    return ""


def write(
    verb: Verb[P, T],
    *,
    durable: bool | Callable[..., bool] = True,
    rows: Callable[..., str] = _nothing,
) -> Method[P, T]:
    """In one transaction with the writes that arrive at the same time. durable: whether its caller
    is answered after an fsync. rows: names those that it keeps from others until its transaction
    has ended. Both may look at the verb's arguments."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        synced = durable if isinstance(durable, bool) else durable(*args, **kwargs)
        run = partial(getattr(self._ledger, verb.__name__), *args, **kwargs)
        result: T = await self._writes.ask(run, durable=synced, rows=rows(*args, **kwargs))
        return result

    return call


def read(verb: Verb[P, T], *, of: Callable[[Ledger], Any] = lambda ledger: ledger) -> Method[P, T]:
    """Of few rows. of: the part of the ledger that has the verb."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run = partial(getattr(of(self._ledger), verb.__name__), *args, **kwargs)
        result: T = await self._reads.ask(run)
        return result

    return call


def listing(verb: Verb[P, T]) -> Method[P, T]:
    """Of many rows."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run = partial(getattr(self._ledger, verb.__name__), *args, **kwargs)
        result: T = await self._lists.ask(run)
        return result

    return call


def apart(verb: Verb[P, T]) -> Method[P, T]:
    """In a transaction and on a thread of its own: other writes do not wait for it."""

    async def call(self: LedgerThreads, /, *args: P.args, **kwargs: P.kwargs) -> T:
        run: Callable[..., T] = getattr(self._ledger, verb.__name__)
        return await asyncio.to_thread(run, *args, **kwargs)

    return call
