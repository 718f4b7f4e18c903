"""What the ledger knows, read from snapshots that wait for no writer. Part of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.compiled import run
from jobs.depth import Depth, QueueEstimate
from jobs.job import Job
from jobs.request import BATCH_TIER, Enquiry, Tenant
from jobs.sql.admission import check_admission
from jobs.sql.depth import lane_depth
from jobs.sql.records import load_job, load_jobs
from jobs.sql.submitting import is_newcomer, usage_of
from jobs.sql.verbs import SqlVerbs
from jobs.tiers import Standing

_COUNTED = 10_000  # of a tenant's waiting jobs: it may ask often, and have very many


class SqlReads(SqlVerbs):
    """See JobReads and QueueReads."""

    def get(self, job_id: str) -> Job | None:
        with self._read() as connection:
            return load_job(connection, job_id)

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        with self._read() as connection:
            return list(load_jobs(connection, list(job_ids)).values())

    def moved(self, lanes: Sequence[str], since: float | None) -> tuple[frozenset[str], float]:
        with self._read() as connection:
            now = self._now(connection)
            where = {"ids": list(lanes), "since": now if since is None else since}
            return frozenset(row[0] for row in run(connection, sql.MOVED, where)), now

    def recent(self, tenant: str, limit: int, *, batches: bool = True) -> list[Job]:
        with self._read() as connection:
            ids = _newest(connection, tenant, limit, "" if batches else BATCH_TIER)
            jobs = load_jobs(connection, ids)
            return [jobs[job_id] for job_id in ids if job_id in jobs]

    def job_ids(self, tenant: str, limit: int) -> list[str]:
        with self._read() as connection:
            return _newest(connection, tenant, limit)

    def children(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        with self._read() as connection:
            where = {"tenant": tenant, "parent": job_id, "limit": limit}
            ids = list(connection.execute(sql.CHILDREN, where).scalars())
            jobs = load_jobs(connection, ids)
            return [jobs[job_id] for job_id in reversed(ids) if job_id in jobs]

    def ancestors(self, tenant: str, job_id: str, limit: int = 100) -> list[Job]:
        with self._read() as connection:
            where = {"tenant": tenant, "id": job_id, "limit": limit}
            steps = {row.id: row.steps for row in connection.execute(sql.ANCESTORS, where)}
            found = load_jobs(connection, list(steps)).values()
            ours = [job for job in found if job.request.tenant == tenant]
            return sorted(ours, key=lambda job: steps[job.id])

    def version(self) -> int:
        return self._database.version()

    def changed(self, seen: int, seconds: float) -> int:
        return self._database.changed(seen, seconds)

    def interrupt(self) -> None:
        self._database.interrupt()

    def depth(self, lane: str) -> Depth:
        with self._read() as connection:
            return lane_depth(connection, self._queues, lane, self._now(connection))

    def estimates(self, job_ids: Sequence[str]) -> dict[str, QueueEstimate]:
        with self._read() as connection:
            now = self._now(connection)
            return self._estimates.of(connection, self._fair_queue, job_ids, now)

    def standing(self, tenant: Tenant, lane: str) -> Standing:
        tier = self._tier(tenant.tier, lane)
        with self._read() as connection:
            usage = usage_of(connection, tenant, tier, self._days, self._now(connection))
            where = {"tenant": tenant.id, "lane": lane}
            most = max(_COUNTED, tier.queued_jobs or 0)
            queued = connection.execute(sql.WAITING, {**where, "limit": most}).scalar_one()
            renders = connection.execute(sql.RENDERS_OF, where).scalar_one()
            newcomer = is_newcomer(connection, tenant)
            return Standing(usage, int(queued), int(renders), newcomer)

    def check_admission(self, enquiry: Enquiry) -> None:
        tier = self._tier(enquiry.tenant.tier, enquiry.lane)
        with self._read() as connection:
            check_admission(connection, enquiry, tier, self._days, self._now(connection))


def _newest(connection: Connection, tenant: str, limit: int, but: str = "") -> list[str]:
    """but: a tier whose share is left out."""
    found = connection.execute(sql.RECENT, {"tenant": tenant, "but": but, "limit": limit})
    return list(found.scalars())
