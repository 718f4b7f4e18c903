"""The lines of batches: from a file's lines to jobs, and to what these ended with. Of SqlLedger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from jobs.batches import BatchEvent, BatchLine, BatchRecord, BatchState, LineState
from jobs.db import batch_tables as sql
from jobs.db.compiled import send
from jobs.db.errors import again_if_overtaken
from jobs.db.rows import request_to_json, storable
from jobs.job import JobState
from jobs.request import ImageRequest
from jobs.sql.batch_records import held_batch, line_of, move_batch, record
from jobs.sql.submitting import Order, Terms, accept
from jobs.sql.verbs import SqlVerbs
from jobs.tiers import DEFAULT_TIER

_AT_ONCE = 500
"""Lines that one transaction settles."""
_CHANGE_OF = {BatchState.CANCELLING: LineState.CANCELLED, BatchState.FINALIZING: LineState.EXPIRED}
"""What becomes of a line whose job was cancelled, by the state of its batch."""


class SqlBatchLines(SqlVerbs):
    """The part of BatchTable that is about lines."""

    def waiting_lines(self, batch_id: str, limit: int) -> list[BatchLine]:
        with self._read() as connection:
            rows = connection.execute(sql.WAITING, {"id": batch_id, "limit": limit})
            return [line_of(row) for row in rows]

    def queued_lines(self, batch_id: str) -> int:
        with self._read() as connection:
            return int(connection.execute(sql.QUEUED, {"id": batch_id}).scalar_one())

    @again_if_overtaken
    def feed_lines(
        self, batch_id: str, fence: int, requests: Mapping[int, ImageRequest]
    ) -> list[str]:
        with self._write() as connection:
            batch = held_batch(connection, batch_id, fence)
            if batch.state is not BatchState.IN_PROGRESS or not requests:
                return []
            where = {"id": batch_id, "first": min(requests), "last": max(requests)}
            waiting = set(connection.execute(sql.STILL_WAITING, where).scalars())
            lines = [line for line in sorted(requests) if line in waiting]
            orders = [
                Order(requests[line], request_to_json(requests[line]), DEFAULT_TIER)
                for line in lines
            ]
            if not orders:
                return []
            terms = Terms(self._now(connection), self._days, self._watch_grace_seconds)
            ids = [one.job.id for one in accept(connection, orders, terms)]
            rows = [
                {"id": batch_id, "line": line, "job_id": job_id}
                for line, job_id in zip(lines, ids, strict=True)
            ]
            send(connection, (sql.FED, rows))
            return ids

    @again_if_overtaken
    def refuse_lines(self, batch_id: str, fence: int, errors: Mapping[int, str]) -> None:
        with self._write() as connection:
            held_batch(connection, batch_id, fence)
            failed = 0
            for line, error in sorted(errors.items()):
                what = {"id": batch_id, "line": line, "error": storable(error)}
                failed += connection.execute(sql.LINE_REFUSED, what).rowcount
            connection.execute(sql.COUNT, {"id": batch_id, "completed": 0, "failed": failed})

    @again_if_overtaken
    def collect_lines(self, batch_id: str, fence: int) -> BatchRecord:
        where = {"id": batch_id, "limit": _AT_ONCE}
        with self._read() as connection:
            found = connection.execute(sql.ENDED_JOBS, where).first()
            live = connection.execute(sql.ANY_LIVE, {"id": batch_id}).first()
            if found is None and live is not None:
                return record(connection.execute(sql.BATCH, {"id": batch_id}).one())
        with self._write() as connection:
            batch = held_batch(connection, batch_id, fence)
            batch = self._settle_lines(connection, batch, where)
            live = connection.execute(sql.ANY_LIVE, {"id": batch_id}).first()
            if batch.state is BatchState.IN_PROGRESS and live is None:
                batch = move_batch(connection, batch, BatchEvent.DRAIN, self._now(connection))
            return batch

    def _settle_lines(
        self, connection: Connection, batch: BatchRecord, where: Mapping[str, Any]
    ) -> BatchRecord:
        """Lines whose jobs have ended have ended; and what is left in each queue."""
        counts = Counter[LineState]()
        work = Counter[str]()
        rows = []
        for number, queue, cost, job_state in connection.execute(sql.ENDED_JOBS, where).all():
            state = _ended_state(job_state, batch.state)
            counts[state] += 1
            work[queue] += cost
            rows.append({"id": batch.id, "line": number, "state": state})
        if not rows:
            return batch
        less = [{"id": batch.id, "queue": name, "cost": cost} for name, cost in work.items()]
        completed, failed = counts[LineState.COMPLETED], counts[LineState.FAILED]
        count = {"id": batch.id, "completed": completed, "failed": failed}
        send(connection, (sql.LINE_ENDED, rows), (sql.LESS_WORK, less), (sql.COUNT, count))
        return replace(batch, completed=batch.completed + completed, failed=batch.failed + failed)

    @again_if_overtaken
    def stop_lines(self, batch_id: str, fence: int, limit: int) -> list[str] | None:
        with self._write() as connection:
            batch = held_batch(connection, batch_id, fence)
            if batch.state not in _CHANGE_OF:
                return None
            state = _CHANGE_OF[batch.state]
            connection.execute(sql.STOP_WAITING, {"id": batch_id, "state": state})
            jobs = connection.execute(sql.FED_JOBS, {"id": batch_id, "limit": limit})
            ids = [str(job_id) for job_id in jobs.scalars()]
            live = connection.execute(sql.ANY_LIVE, {"id": batch_id}).first()
            return ids if live is not None else None

    def ended_lines(self, batch_id: str, after: int, limit: int) -> list[BatchLine]:
        with self._read() as connection:
            where = {"id": batch_id, "after": after, "limit": limit}
            return [line_of(row) for row in connection.execute(sql.LINES, where)]


def _ended_state(job_state: str | None, batch: BatchState) -> LineState:
    """Of a line, by its job's state; None: that job is forgotten."""
    if job_state == JobState.SUCCEEDED:
        return LineState.COMPLETED
    if job_state in (JobState.CANCELLED, JobState.EXPIRED) and batch in _CHANGE_OF:
        return _CHANGE_OF[batch]
    return LineState.EXPIRED if job_state == JobState.EXPIRED else LineState.FAILED
