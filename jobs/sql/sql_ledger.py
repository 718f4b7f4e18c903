"""The Ledger in SQL. Each verb is one transaction: load, decide with the pure rules, store.

Safe to call from any thread. What a state change means is decided in job.py, attempts.py and
tiers.py; who is next in fair_queue.py; this file only asks them inside a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection

from jobs.costs import KINDS_READ, ImageCost
from jobs.db import statements as sql
from jobs.db.compiled import send
from jobs.db.database import open_database
from jobs.db.errors import again_if_overtaken
from jobs.db.rows import request_to_json
from jobs.db.schema import create_tables, has_tables
from jobs.files import UNLIMITED, FileRoom, StoredFile, leftover
from jobs.job import HELD, Job, JobEvent, JobState
from jobs.ledger import (
    Asking,
    Beat,
    Depth,
    LeaseLost,
    LedgerUnavailable,
    NotYetOpen,
    Outcome,
    Outlook,
    Renewal,
    Standing,
    Submission,
)
from jobs.limit_levels import LimitChange, LimitLevel, load_changes, load_level, store_level
from jobs.policy.attempts import LeaseEnd, return_to_queue
from jobs.policy.fair_queue import LEAST_SHARE, FairQueue
from jobs.policy.settling import Finish
from jobs.quota_days import QuotaDays
from jobs.request import Enquiry, ImageRequest, Tenant
from jobs.retention import Batch, Retention, Step
from jobs.sql.accounts import Accounts, open_accounts
from jobs.sql.admission import check_admission
from jobs.sql.claiming import Claim, claim_jobs
from jobs.sql.depth import lane_depth
from jobs.sql.filing import insert_file, load_file, load_files, load_stale, postpone
from jobs.sql.forgetting import (
    Forgetting,
    anything_aged,
    drop_jobs,
    drop_tenant,
    end_batch,
    next_batch,
)
from jobs.sql.heartbeat import write_beats
from jobs.sql.parking import stray_tenants, unpark
from jobs.sql.passed_over import PassedOver
from jobs.sql.preempting import find_preemption, store_preemption
from jobs.sql.queue_estimate import Outlooks
from jobs.sql.queue_length import Queues
from jobs.sql.records import load_job, load_jobs, lock_jobs, store_job, store_jobs
from jobs.sql.submitting import Order, Submit, Terms, accept, is_newcomer, usage_of
from jobs.sql.transactions import Transactions
from jobs.tiers import DEFAULT_TIER, Tier

T = TypeVar("T")

UTC_DAYS = QuotaDays()
_EXPIRE_AT_ONCE = 500
_LATE_WRITES_SECONDS = 86_400.0
"""So long a dispatcher that was stopped may store a picture of a job that is erased."""
_COUNTED = 10_000  # of a tenant's waiting jobs: it may ask often, and have very many


class SqlLedger:
    """A Ledger at a URL: `sqlite:////var/lib/meltproof/ledger.db`, `postgresql://user@host/name`.

    tiers: what each tier promises; an unknown one has no limit and weight 1. May be replaced at any
    time. least_share: of the lane, for every tier with work. attempts_max: tries without progress
    before a job fails. watch_grace_seconds: how long a synchronous job lives when its client has
    left; five times that when nothing is heard of it (watching.py).
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
        self._outlooks = Outlooks(self._queues)
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

    @property
    def _fair_queue(self) -> FairQueue:
        return FairQueue(self.tiers, self.least_share)

    def together(
        self, calls: Sequence[Callable[[], T]], *, durable: bool = True
    ) -> list[T | Exception]:
        """See Ledger."""
        return self._transactions.together(calls, durable, self._finish, self._submit)

    # -- asking

    @property
    def accounts(self) -> Accounts:
        """The tenants' keys, in the same database."""
        return self._accounts

    def submit(self, request: ImageRequest) -> Submission:
        """See Ledger. ValueError for text that no database stores faithfully."""
        (submission,) = self._submit([Submit(self, request)])
        return submission

    @again_if_overtaken
    def _submit(self, submits: Sequence[Submit]) -> list[Submission]:
        """All, or none and why not one of them."""
        orders = [self._order(submit.request) for submit in submits]
        with self._write() as connection:
            terms = Terms(self._now(connection), self._days, self._watch_grace_seconds)
            return accept(connection, orders, terms)

    def _order(self, request: ImageRequest) -> Order:
        stored = request_to_json(request)
        tier = self.tiers.get(request.tier, DEFAULT_TIER)
        tenant = Tenant(request.tenant, request.tier)
        if not tier.open_to(tenant.id):
            raise NotYetOpen(tenant.tier, tier.open_percent)
        if not tier.open_to_newcomer(tenant.id) and self._newcomer(tenant):
            raise NotYetOpen(tenant.tier, tier.newcomers_percent)
        return Order(request, stored, tier)

    @again_if_overtaken
    def cancel(self, job_id: str) -> Job | None:
        """See Ledger."""
        with self._write() as connection:
            job = load_job(connection, job_id, to_move=True)
            return None if job is None else self._cancel(connection, job)

    @again_if_overtaken
    def withdraw(self, job_id: str) -> Job | None:
        """See Ledger."""
        with self._write() as connection:
            job = load_job(connection, job_id, to_move=True)
            if job is None or job.ended:
                return job
            others = connection.execute(sql.WITHDRAW, {"id": job_id}).rowcount > 0
            return job if others else self._cancel(connection, job)

    def _cancel(self, connection: Connection, job: Job) -> Job:
        if job.ended or job.cancel_requested:
            return job
        after = replace(job, cancel_requested=True)
        if job.state is JobState.QUEUED:
            return self._store(connection, job, after.on(JobEvent.CANCEL))
        connection.execute(sql.CANCEL_LEASE, {"job_id": job.id, "yes": True})
        return self._store(connection, job, after)

    @again_if_overtaken
    def watch(self, job_ids: Sequence[str], seconds: float) -> float:
        """See Ledger. Not fsynced, and not for a job that somebody is moving right now: a lost
        renewal is renewed, long before the grace is over."""
        with self._write(self._database.relaxed) as connection:
            until = self._now(connection) + seconds
            ids = lock_jobs(connection, job_ids, skip=True)
            connection.execute(sql.WATCH, {"ids": ids, "until": until})
            return until

    @again_if_overtaken
    def left(self, seen: Mapping[str, float], grace_seconds: float) -> None:
        """See Ledger. Not fsynced: at worst the job lives a little longer."""
        with self._write(self._database.relaxed) as connection:
            until = self._now(connection) + grace_seconds
            ids = lock_jobs(connection, list(seen), skip=True)
            rows = [{"id": job_id, "until": until, "seen": seen[job_id]} for job_id in ids]
            if rows:
                send(connection, (sql.LEFT, rows))

    @again_if_overtaken
    def answered(self, job_ids: Sequence[str]) -> None:
        """See Ledger. As `watch`: at worst a retry gets the same answer again."""
        if job_ids:
            with self._write(self._database.relaxed) as connection:
                ids = lock_jobs(connection, job_ids, skip=True)
                connection.execute(sql.ANSWERED, {"ids": ids, "now": self._now(connection)})

    # -- working

    @again_if_overtaken
    def claim(
        self,
        lane: str,
        worker: str,
        limit: int,
        lease_seconds: float,
        sparing: frozenset[str] = frozenset(),
    ) -> list[Job]:
        """See Ledger. An empty lane is seen without taking the write lock; one that just gave all
        that was asked for has more."""
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
    def make_way(self, asking: Asking) -> list[str]:
        """See Ledger."""
        with self._read() as connection:
            decided = find_preemption(connection, self._fair_queue, asking, self._now(connection))
        if not decided.preempted:
            return []
        with self._write(self._database.relaxed) as connection:
            return store_preemption(connection, self._fair_queue, asking, self._now(connection))

    @again_if_overtaken
    def renew(self, beats: Sequence[Beat], lease_seconds: float) -> list[Renewal]:
        """See Ledger. Not fsynced."""
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
        """See Ledger. ValueError for an outcome that does not settle an image."""
        (result,) = self._finish([Finish(self, job_id, fence, index, outcome)])
        if isinstance(result, Exception):
            raise result
        return result

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
                store_jobs(connection, moves, self.tiers)
            return results

    @again_if_overtaken
    def release(self, job_id: str, fence: int, *, error: str | None = None) -> None:
        """See Ledger."""
        with self._write() as connection:
            job = self._held(connection, job_id, fence)
            if job is None:
                return
            claimed = connection.execute(sql.LEASE_PROGRESS, {"job_id": job_id}).scalar_one()
            self._give_back(connection, job, LeaseEnd(error, False, job.progress > claimed))

    def _give_back(self, connection: Connection, job: Job, how: LeaseEnd) -> None:
        after = return_to_queue(job, how, self._attempts_max)
        self._store(connection, job, replace(after, fence=job.fence + 1))

    def _held(self, connection: Connection, job_id: str, fence: int) -> Job | None:
        job = load_jobs(connection, [job_id], to_move=True).get(job_id)
        return job if job is not None and job.state in HELD and job.fence == fence else None

    def _store(self, connection: Connection, before: Job, after: Job) -> Job:
        after = self._at_rest(connection, after)
        store_job(connection, before, after, self.tiers)
        return after

    def _at_rest(self, connection: Connection, job: Job) -> Job:
        """With the time of its end, if that was it, and without a worker, if nobody holds it."""
        if job.ended:
            job = replace(job, finished_at=self._now(connection))
        return job if job.state in HELD else replace(job, worker=None)

    # -- looking

    def get(self, job_id: str) -> Job | None:
        """See Ledger."""
        with self._read() as connection:
            return load_job(connection, job_id)

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """See Ledger."""
        with self._read() as connection:
            return list(load_jobs(connection, list(job_ids)).values())

    def recent(self, tenant: str, limit: int) -> list[Job]:
        """See Ledger."""
        with self._read() as connection:
            ids = _newest(connection, tenant, limit)
            jobs = load_jobs(connection, ids)
            return [jobs[job_id] for job_id in ids if job_id in jobs]

    def job_ids(self, tenant: str, limit: int) -> list[str]:
        """See Ledger."""
        with self._read() as connection:
            return _newest(connection, tenant, limit)

    def children(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """See Ledger."""
        with self._read() as connection:
            where = {"tenant": tenant, "parent": job_id, "limit": limit}
            ids = list(connection.execute(sql.CHILDREN, where).scalars())
            jobs = load_jobs(connection, ids)
            return [jobs[job_id] for job_id in reversed(ids) if job_id in jobs]

    def ancestors(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        """See Ledger."""
        with self._read() as connection:
            where = {"tenant": tenant, "id": job_id, "limit": limit}
            steps = {row.id: row.steps for row in connection.execute(sql.ANCESTORS, where)}
            found = load_jobs(connection, list(steps)).values()
            ours = [job for job in found if job.request.tenant == tenant]
            return sorted(ours, key=lambda job: steps[job.id])

    def position(self, job_id: str) -> int | None:
        """See Ledger."""
        with self._read() as connection:
            now = self._now(connection)
            place = self._queues.place(connection, self._fair_queue, job_id, now)
            return None if place is None else place.jobs

    def outlook(self, job_id: str) -> Outlook:
        """One of `outlooks`; empty for a job that does not wait or run."""
        return self.outlooks([job_id]).get(job_id, Outlook())

    def outlooks(self, job_ids: Sequence[str]) -> dict[str, Outlook]:
        """See Ledger."""
        with self._read() as connection:
            now = self._now(connection)
            return self._outlooks.of(connection, self._fair_queue, job_ids, now)

    def standing(self, tenant: Tenant, lane: str) -> Standing:
        """See Ledger."""
        tier = self.tiers.get(tenant.tier, DEFAULT_TIER)
        with self._read() as connection:
            usage = usage_of(connection, tenant, tier, self._days, self._now(connection))
            where = {"tenant": tenant.id, "lane": lane}
            most = max(_COUNTED, tier.queued_jobs or 0)
            queued = connection.execute(sql.WAITING, {**where, "limit": most}).scalar_one()
            renders = connection.execute(sql.RENDERS_OF, where).scalar_one()
            newcomer = is_newcomer(connection, tenant)
            return Standing(usage, int(queued), int(renders), newcomer)

    def check_admission(self, enquiry: Enquiry) -> None:
        """See Ledger."""
        tier = self.tiers.get(enquiry.tenant.tier, DEFAULT_TIER)
        with self._read() as connection:
            check_admission(connection, enquiry, tier, self._days, self._now(connection))

    def _newcomer(self, tenant: Tenant) -> bool:
        with self._read() as connection:
            return is_newcomer(connection, tenant)

    def depth(self, lane: str) -> Depth:
        """See Ledger."""
        with self._read() as connection:
            return lane_depth(connection, self._queues, lane, self._now(connection))

    def learn(self, costs: Sequence[ImageCost]) -> None:
        """See Ledger. In one order, so that of two who learn neither waits for both."""
        rows = sorted(costs, key=lambda cost: cost.kind)
        with self._write(self._database.relaxed) as connection:
            connection.execute(sql.LEARN, [cost.row() for cost in rows])

    def costs(self, model: str) -> list[ImageCost]:
        """See Ledger."""
        with self._read() as connection:
            rows = connection.execute(sql.COSTS, {"model": model, "limit": KINDS_READ})
            return [ImageCost(*row) for row in rows]

    def limit_level(self, lane: str) -> tuple[LimitLevel, float]:
        """See Ledger."""
        with self._read() as connection:
            return load_level(connection, lane), self._now(connection)

    @again_if_overtaken
    def move_limits(self, lane: str, before: LimitLevel, after: LimitLevel) -> bool:
        """See Ledger. A reading is not fsynced, a change is."""
        changed = after.level != before.level
        with self._write(None if changed else self._database.relaxed) as connection:
            return store_level(connection, lane, before, after)

    def limit_changes(self, lane: str, limit: int) -> list[LimitChange]:
        """The audit log, newest first."""
        with self._read() as connection:
            return load_changes(connection, lane, limit)

    def version(self) -> int:
        """See Ledger."""
        return self._database.version()

    # -- files

    @again_if_overtaken
    def add_file(self, file: StoredFile, room: FileRoom = UNLIMITED) -> StoredFile:
        """See Ledger."""
        with self._write() as connection:
            return insert_file(connection, file, room, self._now(connection))

    @again_if_overtaken
    def postpone(self, files: Sequence[StoredFile], seconds: float) -> None:
        """See Ledger."""
        with self._write() as connection:
            postpone(connection, files, self._now(connection), seconds)

    def file(self, tenant: str, file_id: str) -> StoredFile | None:
        """See Ledger."""
        with self._read() as connection:
            return load_file(connection, tenant, file_id, self._now(connection))

    def files(self, tenant: str, limit: int, after: str | None = None) -> list[StoredFile]:
        """See Ledger."""
        with self._read() as connection:
            return load_files(connection, tenant, limit, after, self._now(connection))

    @again_if_overtaken
    def drop_file(self, tenant: str, file_id: str) -> bool:
        """See Ledger."""
        with self._write() as connection:
            what = {"tenant": tenant, "id": file_id, "now": self._now(connection)}
            return connection.execute(sql.DROP_FILE, what).rowcount > 0

    def stale_files(self, limit: int, tenant: str | None = None) -> list[StoredFile]:
        """See Ledger."""
        with self._read() as connection:
            return load_stale(connection, limit, tenant, self._now(connection))

    @again_if_overtaken
    def forget_files(self, files: Sequence[StoredFile]) -> None:
        """See Ledger."""
        with self._write(self._database.relaxed) as connection:
            connection.execute(sql.FORGET_FILES, {"ids": sorted(file.id for file in files)})

    # -- rescuing

    @again_if_overtaken
    def expire(self) -> int:
        """See Ledger. After an outage of the ledger every holder has one lease to come back, and
        every watcher one grace. With nothing to do it takes no write lock."""
        with self._read() as connection:
            now = self._now(connection)
            if not _anything_lapsed(connection, self._passed.ids, now):
                self._outage.succeeded(now)
                return 0
        with self._write() as connection:
            now = self._now(connection)
            if strays := stray_tenants(connection):
                unpark(connection, strays)
            moved = self._expire_leases(connection, now)
            moved += self._expire_overdue(connection, now)
            return moved + self._cancel_unwatched(connection, now)

    def _expire_leases(self, connection: Connection, now: float) -> int:
        found = connection.execute(sql.LAPSED_LEASES, {"now": now}).all()
        ours = set(lock_jobs(connection, [row.job_id for row in found], skip=True))
        # Again, because a heartbeat may have come before our lock.
        rows = connection.execute(sql.LAPSED_LEASES, {"now": now}).all()
        patience = min((row.lease_seconds for row in rows), default=self._watch_grace_seconds)
        self._outage.look(now, patience)
        ahead = [row.job_id for row in rows if row.job_id in ours and row.lease_until > now]
        if ahead:
            connection.execute(sql.SHORTEN_LEASES, {"ids": ahead, "now": now})
        lapsed = {
            row.job_id: row.progress
            for row in rows
            if row.job_id in ours and self._outage.lapsed(row.lease_until, row.lease_seconds, now)
        }
        for job_id, job in load_jobs(connection, list(lapsed)).items():
            reason = f"lease of {job.worker} lapsed"
            self._give_back(connection, job, LeaseEnd(reason, True, job.progress > lapsed[job_id]))
        return len(lapsed)

    def _expire_overdue(self, connection: Connection, now: float) -> int:
        rows = connection.execute(sql.OVERDUE, self._at_once(now))
        found = self._load_free(connection, list(rows.scalars()))
        overdue = [j for j in found if j.state is JobState.QUEUED and j.expires_at <= now]
        for job in overdue:
            self._store(connection, job, job.on(JobEvent.EXPIRE))
        return len(overdue)

    def _cancel_unwatched(self, connection: Connection, now: float) -> int:
        rows = connection.execute(sql.UNWATCHED, self._at_once(now))
        grace = self._watch_grace_seconds
        lapsed = [row.id for row in rows if self._outage.lapsed(row.watched_until, grace, now)]
        found = self._load_free(connection, lapsed)
        unwatched = [job for job in found if job.watched_until and job.watched_until <= now]
        for job in unwatched:
            self._cancel(connection, job)
        return len(unwatched)

    def _at_once(self, now: float) -> dict[str, object]:
        return {"now": now, "limit": _EXPIRE_AT_ONCE, "passed": self._passed.ids}

    def _load_free(self, connection: Connection, job_ids: Sequence[str]) -> list[Job]:
        """Those that are not being moved, in the order in which every transaction takes tenants'
        rows."""
        ours = lock_jobs(connection, job_ids, skip=True)
        found = load_jobs(connection, ours)
        self._passed.note(ours, found)
        return sorted(found.values(), key=lambda job: job.request.tenant)

    # -- forgetting

    def retire(self, lane: str, step: Step, kept: Retention) -> Batch | None:
        """See Ledger. With nothing to do it takes no write lock."""
        with self._read() as connection:
            if not anything_aged(connection, Forgetting(lane, step, kept, self._now(connection))):
                return None
        with self._write() as connection:
            return next_batch(connection, Forgetting(lane, step, kept, self._now(connection)))

    def retired(self, lane: str, batch: Batch) -> None:
        """See Ledger."""
        with self._write() as connection:
            end_batch(connection, lane, batch)

    def forget(self, job_ids: Sequence[str]) -> None:
        """See Ledger."""
        with self._write() as connection:
            late = connection.execute(sql.LATE_WRITERS, {"ids": list(job_ids)}).scalars()
            left = [leftover(job_id) for job_id in late]
            postpone(connection, left, self._now(connection), _LATE_WRITES_SECONDS)
            drop_jobs(connection, list(job_ids))

    @again_if_overtaken
    def store_id(self, found: str | None = None) -> str | None:
        """See Ledger."""
        with self._read() as connection:
            known: str | None = connection.execute(sql.STORE_ID).scalar()
        if known is not None or found is None:
            return known
        with self._write() as connection:
            connection.execute(sql.NEW_STORE_ID, {"id": found})
            return str(connection.execute(sql.STORE_ID).scalar_one())

    def forget_tenant(self, tenant: str) -> None:
        """See Ledger."""
        with self._write() as connection:
            drop_tenant(connection, tenant)

    def scrub(self) -> None:
        """See Ledger."""
        self._database.scrub()

    def close(self) -> None:
        """See Ledger."""
        self._database.close()


def _newest(connection: Connection, tenant: str, limit: int) -> list[str]:
    found = connection.execute(sql.RECENT, {"tenant": tenant, "limit": limit})
    return list(found.scalars())


def _anything_lapsed(connection: Connection, passed: Sequence[str], now: float) -> bool:
    limits = {"now": now, "limit": 1, "passed": passed}
    return any(
        connection.execute(statement, limits).first() is not None
        for statement in (sql.LAPSED_LEASES, sql.OVERDUE, sql.UNWATCHED, sql.STRAYS)
    )
