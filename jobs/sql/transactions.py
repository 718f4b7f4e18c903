"""One ledger client's transactions: their time, their errors, and several verbs in one of them.

Knows nothing of jobs. Part of SqlLedger.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import SqlDatabase
from jobs.db.errors import Overtaken, duplicate, ends_all, translated
from jobs.db.outage import Outage
from jobs.ledger_errors import LedgerUnavailable

T = TypeVar("T")
Verb = Callable[..., Any]
Plural = Callable[[Sequence[Any]], Sequence[Any]]
"""A verb done for several calls at once, which are partials of it."""


class _OfThread(threading.local):
    """A thread's open transaction, and the time in it."""

    connection: Connection | None = None
    now: float | None = None


class _OneRaised(Exception):
    """A call of a batch raised: all is undone, to be done again with savepoints."""


@dataclass(frozen=True, slots=True)
class _Mode:
    """How a batch runs its calls."""

    run: Callable[[Connection, Callable[[], Any]], Any]
    at_once: Mapping[Verb, Plural]
    """What does many calls of a verb."""


class Transactions:
    """Opens them on any thread, one at a time on each. clock: instead of the database's."""

    def __init__(self, database: SqlDatabase, clock: Callable[[], float] | None) -> None:
        self.outage = Outage()
        self._database = database
        self._clock = clock
        self._own = _OfThread()
        self._one_raised = False  # in the last batch

    @contextmanager
    def write(self, engine: Engine | None = None) -> Iterator[Connection]:
        """One transaction, or a part of the one that `together` has open on this thread."""
        shared = self._own.connection
        if shared is not None:
            yield shared
            return
        with self._errors(), (engine or self._database.durable).begin() as connection:
            now = self._own.now = self._read_clock(connection)
            yield connection
        self.outage.succeeded(now)
        self._database.wrote()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._own.now = None
        with self._errors(), self._database.reader.begin() as connection:
            yield connection

    def now(self, connection: Connection) -> float:
        """The time of this transaction; the clock is read once in it."""
        if self._own.now is None:
            self._own.now = self._read_clock(connection)
        return float(self._own.now)

    def _read_clock(self, connection: Connection) -> float:
        return self._database.now(connection) if self._clock is None else self._clock()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            meaning = translated(error)
            if meaning is None:
                raise
            if not isinstance(meaning, Overtaken):
                self.outage.failed()
            raise meaning from error

    def together(
        self,
        calls: Sequence[Callable[[], T]],
        durable: bool,
        each: Mapping[Verb, Plural],
        all_or_none: Mapping[Verb, Plural],
    ) -> list[T | Exception]:
        """Run several write verbs in ONE transaction, each as in a savepoint of its own: what one
        raises is its result and undoes nothing of its neighbours. LedgerUnavailable ends them all.
        each: verbs that do several calls which follow each other at once, each with its own result.
        all_or_none: those that refuse them all when they refuse one.

        Without savepoints while none raises. When another such batch needed the same rows in
        another order, each runs alone.
        """
        try:
            if not self._one_raised:
                try:
                    plainly = _Mode(_plainly, {**each, **all_or_none})
                    return self._all(calls, durable, plainly)
                except _OneRaised:
                    self._one_raised = True
            results = self._all(calls, durable, _Mode(_in_savepoint, each))
            self._one_raised = any(isinstance(result, Exception) for result in results)
        except Overtaken:
            results = [_outcome(call) for call in calls]
        return results

    def _all(
        self, calls: Sequence[Callable[[], T]], durable: bool, mode: _Mode
    ) -> list[T | Exception]:
        results: list[Any] = []
        with self.write(None if durable else self._database.relaxed) as connection:
            self._own.connection = connection
            try:
                for verb, group in groupby(calls, _verb_of):
                    if verb is None or (plural := mode.at_once.get(verb)) is None:
                        results.extend(mode.run(connection, call) for call in group)
                        continue
                    alike = list(group)
                    done = mode.run(connection, partial(plural, alike))
                    failed = isinstance(done, Exception)
                    results.extend([done] * len(alike) if failed else done)
            finally:
                self._own.connection = None
        return results


def _verb_of(call: Callable[[], Any]) -> Verb | None:
    return call.func if isinstance(call, partial) else None


def _outcome(call: Callable[[], T]) -> T | Exception:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - it belongs to the caller
        return error


def _plainly(_connection: Connection, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:
        if isinstance(error, LedgerUnavailable) or ends_all(error):
            raise
        raise _OneRaised from error


def _in_savepoint(connection: Connection, call: Callable[[], T]) -> T | Exception:
    result = _undone_if_it_raises(connection, call)
    if isinstance(result, Exception) and duplicate(result):
        result = _undone_if_it_raises(connection, call)
    return result


def _undone_if_it_raises(connection: Connection, call: Callable[[], T]) -> T | Exception:
    connection.exec_driver_sql("SAVEPOINT one_call")
    result: T | Exception
    try:
        result = call()
    except Exception as error:
        if isinstance(error, LedgerUnavailable) or ends_all(error):
            raise
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one_call")
        result = error
    connection.exec_driver_sql("RELEASE SAVEPOINT one_call")
    return result
