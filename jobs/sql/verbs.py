"""What the verbs of SqlLedger share: a database, its transactions (their time, their errors, and
several verbs in one of them), and the moves of a job that several of them make."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from jobs.db import statements as sql
from jobs.db.database import SqlDatabase, open_database
from jobs.db.errors import Outage, Overtaken, again_if_overtaken, duplicate, ends_all, translated
from jobs.db.versions import create_tables, has_tables
from jobs.job import HELD, Job, JobEvent, JobState
from jobs.ledger_errors import LedgerUnavailable
from jobs.policy.fair_queue import LEAST_SHARE, FairQueue
from jobs.policy.settling import LeaseEnd, return_to_queue
from jobs.sql.accounts import Accounts, open_accounts
from jobs.sql.queue_estimate import QueueEstimates
from jobs.sql.queue_length import Queues
from jobs.sql.records import Settlement, store_jobs
from jobs.tiers import DEFAULT_TIER, QuotaDays, Tier
from jobs.usage import PARTS

T = TypeVar("T")
Verb = Callable[..., Any]
Plural = Callable[[Sequence[Any]], Sequence[Any]]
"""A verb done for several calls at once, which are partials of it."""
_MOST = 10_000
"""A list this long costs a query milliseconds. Jobs behind it are left to newer versions."""
UTC_DAYS = QuotaDays()


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


class PassedOver:
    """Of one ledger client; forgotten with it. Callable from any thread."""

    def __init__(self) -> None:
        self._ids: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Those found so far."""
        return self._ids

    def note(self, asked: Collection[str], found: Container[str]) -> bool:
        """Whether some existing jobs that were asked for could not be read. They are remembered."""
        met = tuple(job_id for job_id in asked if job_id not in found)
        if met and len(self._ids) < _MOST:
            self._ids = (*self._ids, *met)
        return bool(met)


class SqlVerbs:
    """A ledger at a URL: `sqlite:////var/lib/meltproof/ledger.db`, `postgresql://user@host/name`.

    tiers: what each tier promises; an unknown one has no limit and weight 1. May be replaced at any
    time. least_share: of the lane, for every tier with work. attempts_max: tries without progress
    before a job fails. watch_grace_seconds: how long a synchronous job lives when its client has
    left; five times that when nothing is heard of it (watch_deadline.py).
    days: by which images are counted. clock: instead of the database's, for tests. Raises
    LedgerUnavailable, SchemaMismatch, ValueError.
    """

    def __init__(  # noqa: PLR0913 - all but the first have a default
        self,
        url: str,
        *,
        tiers: Mapping[str, Tier] | None = None,
        least_share: float = LEAST_SHARE,
        attempts_max: int = 3,
        watch_grace_seconds: float = 120.0,
        days: QuotaDays = UTC_DAYS,
        clock: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        try:
            self._database = open_database(url)
        except OSError as error:
            raise LedgerUnavailable(str(error)) from error
        self.tiers: Mapping[str, Tier] = tiers or {}
        self.tightened: dict[str, Mapping[str, Tier]] = {}
        self.least_share = least_share
        self._attempts_max = attempts_max
        self._watch_grace_seconds = watch_grace_seconds
        self._days = days
        self._transactions = Transactions(self._database, clock)
        self._write, self._read = self._transactions.write, self._transactions.read
        self._now, self._outage = self._transactions.now, self._transactions.outage
        self._queues = Queues()
        self._busy_lanes: set[str] = set()
        self._passed = PassedOver()
        self._part = secrets.randbelow(PARTS)
        self._estimates = QueueEstimates(self._queues)
        self._accounts = Accounts(self._write, self._read, self._now)
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    @again_if_overtaken
    def _prepare(self) -> None:
        with self._read() as connection:
            if has_tables(connection):
                return
        with self._write() as connection:
            create_tables(connection, self._database.lock_schema)
            open_accounts(connection)

    def _tier(self, name: str, queue: str | None) -> Tier:
        tiers = self.tiers if queue is None else self.tightened.get(queue, self.tiers)
        return tiers.get(name, DEFAULT_TIER)

    @property
    def _fair_queue(self) -> FairQueue:
        return FairQueue(self.tiers, self.least_share)

    @property
    def accounts(self) -> Accounts:
        """The tenants' keys, in the same database."""
        return self._accounts

    # -- moves of a job, inside a transaction

    def _store(self, connection: Connection, before: Job, after: Job) -> Job:
        after = self._at_rest(connection, after)
        store_jobs(connection, [(before, after)], self._settlement(connection))
        return after

    def _settlement(self, connection: Connection) -> Settlement:
        return Settlement(self.tiers, self._now(connection), self._part)

    def _at_rest(self, connection: Connection, job: Job) -> Job:
        """With the time of its end, if that was it, and without a worker, if it is not held."""
        if job.ended:
            job = replace(job, finished_at=self._now(connection))
        return job if job.state in HELD else replace(job, worker=None)

    def _cancel(self, connection: Connection, job: Job) -> Job:
        if job.ended or job.cancel_requested:
            return job
        after = replace(job, cancel_requested=True)
        if job.state is JobState.QUEUED:
            return self._store(connection, job, after.on(JobEvent.CANCEL))
        connection.execute(sql.CANCEL_LEASE, {"job_id": job.id, "yes": True})
        return self._store(connection, job, after)

    def _return(self, connection: Connection, job: Job, how: LeaseEnd) -> None:
        after = return_to_queue(job, how, self._attempts_max)
        self._store(connection, job, replace(after, fence=job.fence + 1))
