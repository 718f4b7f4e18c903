"""The Ledger in SQL. Each verb is one transaction: load, decide with the pure rules, store.

Safe to call from any thread. What a state change means is decided in job.py, attempts.py and
tiers.py; which job is next in fair_queue.py; the verbs only ask them inside a transaction. Here are
those of JobQueue and JobWatches; the other parts of the Ledger stand in files of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.compiled import send
from jobs.db.errors import again_if_overtaken
from jobs.db.rows import request_to_json
from jobs.job import HELD, Job, JobEvent, JobState
from jobs.lease import Beat, Outcome, PreemptionRequest, Renewal
from jobs.ledger import Submission
from jobs.ledger_errors import LeaseLost, NotYetOpen
from jobs.policy.settling import Finish, LeaseEnd
from jobs.request import ImageRequest, Tenant
from jobs.sql.admin_log import SqlAdminLog
from jobs.sql.announcing import SqlModelTable
from jobs.sql.auditing import SqlAuditLog, log_verdicts
from jobs.sql.batching import SqlBatchTable
from jobs.sql.claiming import Claim, claim_jobs
from jobs.sql.costs_and_limits import SqlCostsAndLimits
from jobs.sql.deleting import SqlDeletionQueue
from jobs.sql.deliveries import SqlDeliveries
from jobs.sql.expiring import SqlExpiry
from jobs.sql.filing import SqlFileTable
from jobs.sql.heartbeat import write_beats
from jobs.sql.history import SqlLoadHistory
from jobs.sql.operating import SqlOperating
from jobs.sql.preempting import find_preemption, store_preemption
from jobs.sql.reads import SqlReads
from jobs.sql.records import load_job, load_jobs, lock_jobs, store_jobs
from jobs.sql.submitting import Order, Terms, accept, is_newcomer
from jobs.sql.webhook_endpoints import SqlWebhookEndpoints

T = TypeVar("T")


class SqlLedger(
    SqlExpiry,
    SqlReads,
    SqlFileTable,
    SqlDeletionQueue,
    SqlCostsAndLimits,
    SqlModelTable,
    SqlLoadHistory,
    SqlAuditLog,
    SqlAdminLog,
    SqlOperating,
    SqlWebhookEndpoints,
    SqlDeliveries,
    SqlBatchTable,
):
    """See Ledger."""

    def together(
        self, calls: Sequence[Callable[[], T]], *, durable: bool = True
    ) -> list[T | Exception]:
        each = {self.finish_render: self._finish_calls}
        all_or_none = {self.submit: self._submit_calls}
        return self._transactions.together(calls, durable, each, all_or_none)

    def close(self) -> None:
        self._database.close()

    # -- queue

    @again_if_overtaken
    def submit(self, request: ImageRequest) -> Submission:
        order = self._order(request)
        with self._write() as connection:
            (submission,) = accept(connection, [order], self._terms(connection))
            return submission

    @again_if_overtaken
    def _submit_calls(self, calls: Sequence[partial[Submission]]) -> list[Submission]:
        """All, or none and why not one of them."""
        orders = [self._order(*call.args, **call.keywords) for call in calls]
        with self._write() as connection:
            return accept(connection, orders, self._terms(connection))

    def _terms(self, connection: Connection) -> Terms:
        return Terms(self._now(connection), self._days, self._watch_grace_seconds)

    def _order(self, request: ImageRequest) -> Order:
        stored = request_to_json(request)
        tier = self._tier(request.tier, request.lane)
        tenant = Tenant(request.tenant, request.tier)
        if not tier.open_to(tenant.id):
            raise NotYetOpen(tenant.tier, tier.open_percent)
        if not tier.open_to_newcomer(tenant.id) and self._newcomer(tenant):
            raise NotYetOpen(tenant.tier, tier.newcomers_percent)
        return Order(request, stored, tier)

    @again_if_overtaken
    def cancel(self, job_id: str) -> Job | None:
        with self._write() as connection:
            job = load_job(connection, job_id, to_move=True)
            return None if job is None else self._cancel(connection, job)

    @again_if_overtaken
    def claim(
        self,
        lane: str,
        worker: str,
        limit: int,
        lease_seconds: float,
        sparing: frozenset[str] = frozenset(),
    ) -> list[Job]:
        """An empty lane is seen without taking the write lock; one that just gave all that was
        asked for has more."""
        if limit < 1 or (lane not in self._busy_lanes and not self._any_queued(lane)):
            return []
        with self._write() as connection:
            wanted = Claim(lane, worker, limit, lease_seconds, sparing)
            now = self._now(connection)
            jobs = claim_jobs(connection, self._fair_queue, wanted, self._passed, now)
        (self._busy_lanes.add if len(jobs) == limit else self._busy_lanes.discard)(lane)
        return jobs

    def _any_queued(self, lane: str) -> bool:
        with self._read() as connection:
            return connection.execute(sql.ANY_QUEUED, {"lane": lane}).first() is not None

    @again_if_overtaken
    def preempt(self, request: PreemptionRequest) -> list[str]:
        with self._read() as connection:
            decided = find_preemption(connection, self._fair_queue, request, self._now(connection))
        if not decided.preempted:
            return []
        with self._write(self._database.relaxed) as connection:
            return store_preemption(connection, self._fair_queue, request, self._now(connection))

    @again_if_overtaken
    def renew(self, beats: Sequence[Beat], lease_seconds: float) -> list[Renewal]:
        if not beats:
            return []
        with self._write(self._database.relaxed) as connection:
            renewals = write_beats(connection, beats, lease_seconds, self._now(connection))
            gone = [r.job_id for r in renewals if r.cancelled or not r.held]
            jobs = load_jobs(connection, gone)
            for index, renewal in enumerate(renewals):
                job = jobs.get(renewal.job_id)
                if job is None or (renewal.held and not renewal.cancelled):
                    continue
                if renewal.held:
                    self._store(connection, job, job.on(JobEvent.CANCEL))
                cancelled = renewal.held or job.state is JobState.CANCELLED
                renewals[index] = Renewal(renewal.job_id, held=False, cancelled=cancelled)
            return renewals

    def finish_render(self, job_id: str, fence: int, index: int, outcome: Outcome) -> Job:
        (result,) = self._finish([Finish(job_id, fence, index, outcome)])
        if isinstance(result, Exception):
            raise result
        return result

    def _finish_calls(self, calls: Sequence[partial[Job]]) -> list[Job | Exception]:
        return self._finish([Finish(*call.args, **call.keywords) for call in calls])

    @again_if_overtaken
    def _finish(self, finishes: Sequence[Finish]) -> list[Job | Exception]:
        """Each one's own result; all that is to be written, in a statement per table."""
        with self._write() as connection:
            ids = sorted({finish.job_id for finish in finishes})
            before = load_jobs(connection, ids, to_move=True)
            after = dict(before)
            results: list[Job | Exception] = []
            for finish in finishes:
                try:
                    job = self._at_rest(connection, finish.of(after.get(finish.job_id)))
                except (LeaseLost, ValueError) as error:
                    results.append(error)
                else:
                    after[job.id] = job
                    results.append(job)
            moves = [(job, after[job.id]) for job in before.values() if after[job.id] is not job]
            if moves:
                store_jobs(connection, moves, self._settlement(connection))
                self._log(connection, finishes, results)
            return results

    def _log(
        self,
        connection: Connection,
        finishes: Sequence[Finish],
        results: Sequence[Job | Exception],
    ) -> None:
        """The verdicts of those that are settled now."""
        done = [f for f, result in zip(finishes, results, strict=True) if isinstance(result, Job)]
        notes = [note for finish in done for note in finish.outcome.verdicts]
        log_verdicts(connection, notes, self._now(connection) if notes else 0.0)

    @again_if_overtaken
    def release(self, job_id: str, fence: int, *, error: str | None = None) -> None:
        with self._write() as connection:
            job = self._held(connection, job_id, fence)
            if job is None:
                return
            claimed = connection.execute(sql.LEASE_PROGRESS, {"job_id": job_id}).scalar_one()
            self._return(connection, job, LeaseEnd(error, False, job.progress > claimed))

    def _held(self, connection: Connection, job_id: str, fence: int) -> Job | None:
        job = load_jobs(connection, [job_id], to_move=True).get(job_id)
        return job if job is not None and job.state in HELD and job.fence == fence else None

    def _newcomer(self, tenant: Tenant) -> bool:
        with self._read() as connection:
            return is_newcomer(connection, tenant)

    # -- watches

    @again_if_overtaken
    def withdraw(self, job_id: str) -> Job | None:
        with self._write() as connection:
            job = load_job(connection, job_id, to_move=True)
            if job is None or job.ended:
                return job
            others = connection.execute(sql.WITHDRAW, {"id": job_id}).rowcount > 0
            return job if others else self._cancel(connection, job)

    @again_if_overtaken
    def watch(self, job_ids: Sequence[str], seconds: float) -> float:
        with self._write(self._database.relaxed) as connection:
            until = self._now(connection) + seconds
            ids = lock_jobs(connection, job_ids, skip=True)
            connection.execute(sql.WATCH, {"ids": ids, "until": until})
            return until

    @again_if_overtaken
    def unwatch(self, seen: Mapping[str, float], grace_seconds: float) -> None:
        """At worst the job lives a little longer."""
        with self._write(self._database.relaxed) as connection:
            until = self._now(connection) + grace_seconds
            ids = lock_jobs(connection, list(seen), skip=True)
            rows = [{"id": job_id, "until": until, "seen": seen[job_id]} for job_id in ids]
            if rows:
                send(connection, (sql.LEFT, rows))

    @again_if_overtaken
    def answered(self, job_ids: Sequence[str]) -> None:
        """At worst a retry gets the same answer again."""
        if job_ids:
            with self._write(self._database.relaxed) as connection:
                ids = lock_jobs(connection, job_ids, skip=True)
                connection.execute(sql.ANSWERED, {"ids": ids, "now": self._now(connection)})
