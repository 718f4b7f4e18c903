"""What the verbs of SqlLedger share: a database, its transactions, and the moves of a job that
several of them make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.database import open_database
from jobs.db.errors import again_if_overtaken
from jobs.db.schema import create_tables, has_tables
from jobs.job import HELD, Job, JobEvent, JobState
from jobs.ledger_errors import LedgerUnavailable
from jobs.policy.attempts import LeaseEnd, return_to_queue
from jobs.policy.fair_queue import LEAST_SHARE, FairQueue
from jobs.quota_days import QuotaDays
from jobs.sql.accounts import Accounts, open_accounts
from jobs.sql.passed_over import PassedOver
from jobs.sql.queue_estimate import QueueEstimates
from jobs.sql.queue_length import Queues
from jobs.sql.records import store_job
from jobs.sql.transactions import Transactions
from jobs.tiers import DEFAULT_TIER, Tier

UTC_DAYS = QuotaDays()


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
        store_job(connection, before, after, self.tiers)
        return after

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
