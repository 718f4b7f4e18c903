"""What is over by time: leases that lapsed, deadlines, clients that left. Part of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.db.errors import again_if_overtaken
from jobs.job import Job, JobEvent, JobState
from jobs.policy.settling import LeaseEnd
from jobs.sql.parking import stray_tenants, unpark
from jobs.sql.records import load_jobs, lock_jobs
from jobs.sql.verbs import SqlVerbs

_EXPIRE_AT_ONCE = 500


class SqlExpiry(SqlVerbs):
    """See JobQueue.expire."""

    @again_if_overtaken
    def expire(self) -> int:
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
            self._return(connection, job, LeaseEnd(reason, True, job.progress > lapsed[job_id]))
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


def _anything_lapsed(connection: Connection, passed: Sequence[str], now: float) -> bool:
    limits = {"now": now, "limit": 1, "passed": passed}
    return any(
        connection.execute(statement, limits).first() is not None
        for statement in (sql.LAPSED_LEASES, sql.OVERDUE, sql.UNWATCHED, sql.STRAYS)
    )
