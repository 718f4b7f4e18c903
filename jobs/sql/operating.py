"""What operators ask and do: jobs of all tenants, a job that is tried again, what was used. Part of
SqlLedger.

A page looks at no more than operating.SCANNED jobs, along an index, whatever it finds among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, TextClause, func, literal, null, select, text

from jobs.db import statements as sql
from jobs.db.compiled import of_ids, run
from jobs.db.errors import again_if_overtaken
from jobs.db.schema import PARKED_FROM, usage
from jobs.job import HELD, IllegalTransition, Job, JobState
from jobs.operating import (
    SCANNED,
    FoundJob,
    JobFilter,
    JobOrder,
    JobPage,
    JobPlace,
    requeued,
)
from jobs.queues import lane_of
from jobs.retention import Step
from jobs.sql.records import load_job, load_jobs, render_rows
from jobs.sql.verbs import SqlVerbs
from jobs.usage import GroupBy, UsageQuery, Used, UsedBy

_FIRST = 2.0**62
_AMOUNTS = ("images", "requests", "gpu_seconds", "joules")
_GROUPS: tuple[GroupBy, ...] = ("tenant", "model", "size", "source")
# What a job that is held is stored as says nothing of its images.
_HELD_STATE = """(select case when min(r.state) = 'finishing' and max(r.state) = 'finishing'
        then 'finishing' when min(r.state) = 'waiting' and max(r.state) = 'waiting'
        then 'leased' else 'running' end from renders r
    where r.job_id = j.id and r.state in ('waiting', 'rendering', 'finishing'))"""
_SHOWN = "seq, id, lane, tenant"
_SCANS: Mapping[JobOrder, str] = {
    JobOrder.NEWEST: f"""select {_SHOWN}, state, seq as key from jobs
        where seq < :seq {{of_tenant}} order by seq desc limit :scanned""",
    JobOrder.RUNNING: f"""select j.seq, j.id, j.lane, j.tenant, {_HELD_STATE} as state,
            j.started_at as key
        from leases l cross join jobs j
        where j.id = l.job_id and (j.started_at, j.seq) > (:key, :seq)
        order by j.started_at, j.seq limit :scanned""",
    JobOrder.WAITING: f"""select {_SHOWN}, state, deadline_at as key from jobs
        where state = 'queued' and (deadline_at, seq) > (:key, :seq)
        order by deadline_at, seq limit :scanned""",
    JobOrder.FAILED: f"""select {_SHOWN}, state, finished_at as key from jobs
        where state in ('failed', 'expired') and (finished_at, seq) < (:key, :seq)
          and finished_at >= :since
        order by finished_at desc, seq desc limit :scanned""",
}
_DESCENDING = frozenset({JobOrder.NEWEST, JobOrder.FAILED})
_LEASES = of_ids("select job_id, lease_until from leases where job_id in :ids")
_REQUEUE = text(f"""update jobs set state = 'queued', fence = :fence, attempts = 0,
        finished_at = null, answered_at = null, watched_until = null, deadline_at = :deadline_at,
        day = :day, vft = case when vft >= {PARKED_FROM} then vft - {PARKED_FROM} else vft end
    where id = :id and fence = :was_fence and state = :was""")
_FORGOTTEN = text("""select 1 from retention r
    where r.lane = :lane and r.step = :step and r.seq >= (select seq from jobs where id = :id)""")
_CHARGE = text("""insert into quota (tenant, day, used) values (:tenant, :day, :n)
    on conflict (tenant, day) do update set used = quota.used + excluded.used""")


@cache
def page_statement(
    order: JobOrder, of_tenant: bool, states: tuple[JobState, ...] | None
) -> TextClause:
    """The scan, and of what it meets what is asked for."""
    scan = _SCANS[order].format(of_tenant="and tenant = :tenant" if of_tenant else "")
    way = "desc" if order in _DESCENDING else ""
    listed = ", ".join(f"'{state}'" for state in states or ())
    wanted = f"and state in ({listed})" if states is not None else ""
    return text(f"""with scan as ({scan})
        select seq, id, key, 0 as last from scan
        where (cast(:tenant as text) is null or tenant = :tenant)
          and (cast(:queue as text) is null or lane = :queue) {wanted}
        order by key {way}, seq {way} limit :limit""")


@cache
def _end_of_scan(order: JobOrder, of_tenant: bool) -> TextClause:
    """The last one of a scan that was not cut short; no row when it came to the end."""
    scan = _SCANS[order].format(of_tenant="and tenant = :tenant" if of_tenant else "")
    way = "desc" if order in _DESCENDING else ""
    return text(f"""with scan as ({scan}) select seq, key from scan
        order by key {way}, seq {way} limit 1 offset :scanned - 1""")


class SqlOperating(SqlVerbs):
    """See Operating."""

    def find_jobs(self, wanted: JobFilter, limit: int, after: JobPlace | None = None) -> JobPage:
        with self._read() as connection:
            where = _where(wanted, limit, after)
            states = _stored(wanted)
            of_tenant = wanted.order is JobOrder.NEWEST and wanted.tenant is not None
            rows = connection.execute(page_statement(wanted.order, of_tenant, states), where).all()
            place = rows[limit - 1] if len(rows) > limit else None
            if place is None:
                place = connection.execute(_end_of_scan(wanted.order, of_tenant), where).first()
            ends = None if place is None else JobPlace(float(place.key), int(place.seq))
            found = _found(connection, [row.id for row in rows[:limit]])
            return JobPage(self._now(connection), _as_wanted(found, wanted), ends)

    def find_job(self, job_id: str) -> FoundJob | None:
        with self._read() as connection:
            if load_job(connection, job_id) is None:
                return None
            return next(iter(_found(connection, [job_id])), None)

    @again_if_overtaken
    def requeue(self, job_id: str) -> Job | None:
        with self._write() as connection:
            before = load_job(connection, job_id, to_move=True)
            if before is None:
                return None
            now = self._now(connection)
            after = requeued(before, now)
            _check_kept(connection, before)
            self._store_requeued(connection, before, after, self._days.of(now))
            return after

    def _store_requeued(self, connection: Connection, before: Job, after: Job, day: str) -> None:
        """Its images are charged to the day on which it goes back, as far as they are drawn again:
        what they were charged before was given back when they failed."""
        again = sum(not render.settled for render in after.renders)
        charged = {"tenant": before.request.tenant, "day": day, "n": again}
        connection.execute(_CHARGE, charged)
        moved = {
            "id": before.id,
            "fence": after.fence,
            "was_fence": before.fence,
            "was": before.state,
            "deadline_at": after.deadline_at,
            "day": day,
        }
        connection.execute(_REQUEUE, moved)
        connection.execute(sql.STORE_RENDER, render_rows([(before, after)]))

    def usage(self, query: UsageQuery) -> list[UsedBy]:
        with self._read() as connection:
            return [_used_by(row) for row in connection.execute(_sums(query))]


def _stored(wanted: JobFilter) -> tuple[JobState, ...] | None:
    """The states to look for as the scan says them: only among the held it knows which."""
    if wanted.states is None or wanted.order is JobOrder.RUNNING:
        return None if wanted.states is None else tuple(sorted(wanted.states))
    return tuple(sorted({JobState.LEASED if s in HELD else s for s in wanted.states}))


def _as_wanted(found: Iterable[FoundJob], wanted: JobFilter) -> tuple[FoundJob, ...]:
    states = wanted.states
    return tuple(one for one in found if states is None or one.job.state in states)


def _where(wanted: JobFilter, limit: int, after: JobPlace | None) -> dict[str, Any]:
    start = _FIRST if wanted.order in _DESCENDING else -1.0
    place = after or JobPlace(start, int(start))
    return {
        "key": place.key,
        "seq": place.seq,
        "tenant": wanted.tenant,
        "queue": wanted.queue,
        "since": wanted.since or 0.0,
        "scanned": SCANNED,
        "limit": limit + 1,
    }


def _found(connection: Connection, job_ids: Sequence[str]) -> tuple[FoundJob, ...]:
    """In that order, without those that this version cannot read."""
    jobs = load_jobs(connection, job_ids)
    until = {row[0]: float(row[1]) for row in run(connection, _LEASES, {"ids": list(job_ids)})}
    return tuple(FoundJob(jobs[one], until.get(one)) for one in job_ids if one in jobs)


def _check_kept(connection: Connection, job: Job) -> None:
    """Raises IllegalTransition for what cannot be drawn, or would never be forgotten, again."""
    if job.request.source is not None and job.request.source.blobs:
        raise IllegalTransition(f"job {job.id}: the picture that it goes on from is deleted")
    where = {"lane": lane_of(job.request.lane), "step": Step.IMAGES, "id": job.id}
    if connection.execute(_FORGOTTEN, where).first() is not None:
        raise IllegalTransition(f"job {job.id}: it is about to be forgotten (retention)")


def _sums(query: UsageQuery) -> Select[Any]:
    seconds = query.bucket_seconds
    bucket = null() if seconds is None else usage.c.hour - usage.c.hour % literal(seconds)
    groups = [usage.c[name] for name in _GROUPS if name in query.by]
    columns = [usage.c[name] if name in query.by else null().label(name) for name in _GROUPS]
    sums = [func.sum(usage.c[name]).label(name) for name in _AMOUNTS]
    asked = select(bucket.label("start"), *columns, *sums)
    asked = asked.where(usage.c.hour >= query.start, usage.c.hour < query.end)
    for name, values in query.only.items():
        asked = asked.where(usage.c[name].in_(values))
    asked = asked.group_by(*([] if seconds is None else [text("start")]), *groups)
    asked = asked.having(func.count() > 0)
    return asked.order_by(text("start"), text(f"{query.most} desc"), *groups).limit(query.limit)


def _used_by(row: Any) -> UsedBy:
    used = Used(int(row.images), int(row.requests), float(row.gpu_seconds), float(row.joules))
    start = None if row.start is None else int(row.start)
    return UsedBy(used, start, row.tenant, row.model, row.size, row.source)
