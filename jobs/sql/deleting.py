"""What is old or unwanted leaves the ledger: tombstones, blobs, rows. Part of SqlLedger."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.db import statements as sql
from jobs.db.batch_tables import DROP_TENANT
from jobs.db.errors import again_if_overtaken
from jobs.files import StoredFile, leftover
from jobs.retention import Batch, Retention, Step
from jobs.sql.filing import load_stale, postpone
from jobs.sql.forgetting import (
    Forgetting,
    anything_aged,
    drop_jobs,
    drop_tenant,
    end_batch,
    next_batch,
)
from jobs.sql.usage_days import into_a_day, oldest_day
from jobs.sql.verbs import SqlVerbs

_LATE_WRITES_SECONDS = 86_400.0
"""How long a dispatcher that was stopped may store a picture of a job that is erased."""


class SqlDeletionQueue(SqlVerbs):
    """See DeletionQueue."""

    def retire(self, lane: str, step: Step, kept: Retention) -> Batch | None:
        with self._read() as connection:
            if not anything_aged(connection, Forgetting(lane, step, kept, self._now(connection))):
                return None
        with self._write() as connection:
            return next_batch(connection, Forgetting(lane, step, kept, self._now(connection)))

    def retired(self, lane: str, batch: Batch) -> None:
        with self._write() as connection:
            end_batch(connection, lane, batch)

    def stale_files(self, limit: int, tenant: str | None = None) -> list[StoredFile]:
        with self._read() as connection:
            return load_stale(connection, limit, tenant, self._now(connection))

    @again_if_overtaken
    def postpone(self, files: Sequence[StoredFile], seconds: float) -> None:
        with self._write() as connection:
            postpone(connection, files, self._now(connection), seconds)

    @again_if_overtaken
    def forget_files(self, files: Sequence[StoredFile]) -> None:
        with self._write(self._database.relaxed) as connection:
            connection.execute(sql.FORGET_FILES, {"ids": sorted(file.id for file in files)})

    def forget(self, job_ids: Sequence[str]) -> None:
        with self._write() as connection:
            late = connection.execute(sql.LATE_WRITERS, {"ids": list(job_ids)}).scalars()
            left = [leftover(job_id) for job_id in late]
            postpone(connection, left, self._now(connection), _LATE_WRITES_SECONDS)
            drop_jobs(connection, list(job_ids))

    def forget_tenant(self, tenant: str) -> None:
        with self._write() as connection:
            for statement in DROP_TENANT:
                connection.execute(statement, {"tenant": tenant})
            drop_tenant(connection, tenant)

    @again_if_overtaken
    def compact_usage(self) -> bool:
        with self._read() as connection:
            day = oldest_day(connection, self._now(connection))
            if day is None:
                return False
        with self._write() as connection:
            into_a_day(connection, day, self._now(connection))
        return True

    def scrub(self) -> None:
        self._database.scrub()
