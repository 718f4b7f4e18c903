"""Batches in SQL. Part of SqlLedger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from jobs.batches import (
    TRANSITIONS,
    BatchEvent,
    BatchFiles,
    BatchRecord,
    BatchState,
    BatchWish,
    FinishedFile,
    NewLine,
    OpenBatches,
    new_batch_id,
)
from jobs.db import batch_tables as sql
from jobs.db import statements
from jobs.db.compiled import send
from jobs.db.errors import again_if_overtaken
from jobs.db.rows import dump, storable
from jobs.files import StoredFile
from jobs.ledger_errors import BatchesFull, IdempotencyMismatch, NotYetOpen
from jobs.request import Tenant
from jobs.sql.batch_lines import SqlBatchLines
from jobs.sql.batch_records import held_batch, move_batch, record
from jobs.sql.filing import file_record
from jobs.sql.submitting import is_newcomer
from jobs.tiers import DEFAULT_TIER

_FORGOTTEN_AT_ONCE = 5
_RETRY_SECONDS, _KEY_SECONDS = 900.0, 86_400.0
"""How long a retry is known by its body, and by its Idempotency-Key."""


class SqlBatchTable(SqlBatchLines):
    """See BatchTable."""

    # -- of tenants

    @again_if_overtaken
    def add_batch(self, lane: str, tenant: Tenant, wish: BatchWish, most_open: int) -> BatchRecord:
        batch_id = new_batch_id()
        with self._write() as connection:
            now = self._now(connection)
            self._check_open(connection, tenant)
            # Orders and batches of one tenant take turns from here to their commit.
            entered = {"tenant": tenant.id, "tier": tenant.tier, "now": now}
            connection.execute(statements.TENANT, entered)
            if (found := _retried(connection, tenant, wish, now)) is not None:
                return found
            open_now = connection.execute(sql.OPEN_OF_TENANT, {"tenant": tenant.id}).one()
            if open_now.batches >= most_open:
                raise BatchesFull(most_open)
            until = now + wish.window_seconds
            named = {"id": wish.input_file, "tenant": tenant.id, "now": now}
            if connection.execute(sql.INPUT, named).first() is None:
                raise KeyError(wish.input_file)
            connection.execute(sql.KEEP_INPUT, {**named, "until": until})
            values = {
                "id": batch_id,
                "lane": lane,
                "tenant": tenant.id,
                "tier": tenant.tier,
                "state": BatchState.VALIDATING,
                "input_file": wish.input_file,
                "endpoint": wish.endpoint,
                "metadata": json.dumps(
                    {storable(k): storable(v) for k, v in wish.metadata.items()}
                ),
                "window_seconds": wish.window_seconds,
                "output_seconds": wish.output_seconds,
                "now": now,
                "expires_at": until,
                "body_hash": wish.body_hash,
                "key": wish.key,
            }
            connection.execute(sql.NEW, values)
            return record(connection.execute(sql.BATCH, {"id": batch_id}).one())

    def _check_open(self, connection: Connection, tenant: Tenant) -> None:
        tier = self.tiers.get(tenant.tier, DEFAULT_TIER)
        if not tier.open_to(tenant.id):
            raise NotYetOpen(tenant.tier, tier.open_percent)
        if not tier.open_to_newcomer(tenant.id) and is_newcomer(connection, tenant):
            raise NotYetOpen(tenant.tier, tier.newcomers_percent)

    def batch(self, tenant: str, batch_id: str) -> BatchRecord | None:
        with self._read() as connection:
            row = connection.execute(sql.OF_TENANT, {"id": batch_id, "tenant": tenant}).first()
            return None if row is None else record(row)

    def batches(self, tenant: str, limit: int, after: str | None = None) -> list[BatchRecord]:
        where: dict[str, object] = {"tenant": tenant, "limit": limit}
        with self._read() as connection:
            if after is None:
                rows = connection.execute(sql.LIST, where)
            else:
                rows = connection.execute(sql.LIST_AFTER, {**where, "after": after})
            return [record(row) for row in rows]

    @again_if_overtaken
    def cancel_batch(self, tenant: str, batch_id: str) -> BatchRecord | None:
        with self._write() as connection:
            where = {"id": batch_id, "tenant": tenant}
            row = connection.execute(sql.LOCKED_OF_TENANT, where).first()
            if row is None:
                return None
            batch = record(row)
            if (batch.state, BatchEvent.CANCEL) not in TRANSITIONS:
                return batch
            return move_batch(connection, batch, BatchEvent.CANCEL, self._now(connection))

    # -- of the feeder that has its lease

    @again_if_overtaken
    def lease_batches(self, lane: str, limit: int, seconds: float) -> list[BatchRecord]:
        with self._read() as connection:
            where = {"lane": lane, "now": self._now(connection), "limit": limit}
            if connection.execute(sql.FREE, where).first() is None:
                return []
        with self._write() as connection:
            now = self._now(connection)
            ids = connection.execute(sql.LOCK_FREE, {**where, "now": now}).scalars().all()
            for batch_id in ids:
                connection.execute(sql.LEASE, {"id": batch_id, "now": now, "until": now + seconds})
            return [record(connection.execute(sql.BATCH, {"id": one}).one()) for one in ids]

    def open_batches(self, lane: str) -> dict[BatchState, OpenBatches]:
        with self._read() as connection:
            found = connection.execute(sql.OPEN, {"lane": lane}).all()
        return {BatchState(state): OpenBatches(*counts) for state, *counts in found}

    @again_if_overtaken
    def hold_batch(self, batch_id: str, fence: int, seconds: float) -> BatchRecord:
        with self._write(self._database.relaxed) as connection:
            batch, now = held_batch(connection, batch_id, fence), self._now(connection)
            connection.execute(sql.HOLD, {"id": batch_id, "until": now + seconds})
            over = now >= batch.expires_at and (batch.state, BatchEvent.LAPSE) in TRANSITIONS
            return move_batch(connection, batch, BatchEvent.LAPSE, now) if over else batch

    @again_if_overtaken
    def let_batch_go(self, batch_id: str, fence: int) -> None:
        with self._write(self._database.relaxed) as connection:
            row = connection.execute(sql.LOCKED, {"id": batch_id}).first()
            if row is not None and record(row).fence == fence:
                connection.execute(sql.HOLD, {"id": batch_id, "until": 0.0})

    def batch_input(self, batch_id: str) -> StoredFile | None:
        with self._read() as connection:
            row = connection.execute(sql.INPUT_OF, {"id": batch_id}).first()
            return None if row is None else file_record(row)

    @again_if_overtaken
    def keep_lines(self, batch_id: str, fence: int, lines: Sequence[NewLine]) -> None:
        with self._write(self._database.relaxed) as connection:
            batch = held_batch(connection, batch_id, fence)
            if batch.state is not BatchState.VALIDATING or not lines:
                return
            rows = [
                {
                    "id": batch_id,
                    "line": one.line,
                    "custom_id": one.custom_id,
                    "start": one.offset,
                    "size": one.size,
                    "images": one.images,
                    "queue": one.queue,
                    "cost": one.cost_seconds,
                }
                for one in lines
            ]
            send(connection, (sql.NEW_LINE, rows))

    @again_if_overtaken
    def begin_batch(
        self, batch_id: str, fence: int, model: str | None, most_images: int
    ) -> BatchRecord:
        with self._write() as connection:
            batch = held_batch(connection, batch_id, fence)
            if batch.state is not BatchState.VALIDATING:
                return batch
            found = connection.execute(sql.LINE_TOTALS, {"id": batch_id}).one()
            open_now = connection.execute(sql.OPEN_OF_TENANT, {"tenant": batch.tenant.id}).one()
            images = open_now.images + found.images
            if images > most_images:
                return self._refuse(connection, batch, [_too_many(images, most_images)])
            totals = {"id": batch_id, "total": found.total, "images": found.images, "model": model}
            connection.execute(sql.BEGUN, totals)
            connection.execute(sql.NEW_WORK, {"id": batch_id})
            batch = replace(batch, total=found.total, images=found.images, model=model)
            return move_batch(connection, batch, BatchEvent.BEGIN, self._now(connection))

    @again_if_overtaken
    def refuse_batch(
        self, batch_id: str, fence: int, errors: Sequence[Mapping[str, Any]]
    ) -> BatchRecord:
        with self._write() as connection:
            batch = held_batch(connection, batch_id, fence)
            if batch.state is not BatchState.VALIDATING:
                return batch
            return self._refuse(connection, batch, errors)

    def _refuse(
        self, connection: Connection, batch: BatchRecord, errors: Sequence[Mapping[str, Any]]
    ) -> BatchRecord:
        connection.execute(sql.DROP_LINES, {"id": batch.id})
        connection.execute(sql.REFUSED, {"id": batch.id, "errors": json.dumps(list(errors))})
        batch = replace(batch, errors=errors)
        return move_batch(connection, batch, BatchEvent.REFUSE, self._now(connection))

    @again_if_overtaken
    def end_batch(self, batch_id: str, fence: int, files: BatchFiles) -> BatchRecord:
        with self._write() as connection:
            batch = held_batch(connection, batch_id, fence)
            now = self._now(connection)
            for name, file in (("output", files.output), ("error", files.errors)):
                if file is not None:
                    self._publish(connection, batch, file, f"{batch_id}_{name}.jsonl", now)
            ends = {
                "output_file": None if files.output is None else files.output.id,
                "error_file": None if files.errors is None else files.errors.id,
                "input_tokens": files.input_tokens,
                "output_tokens": files.output_tokens,
            }
            connection.execute(sql.FILES, {"id": batch_id, **ends})
            expired = connection.execute(sql.ANY_EXPIRED, {"id": batch_id}).first() is not None
            event = BatchEvent.EXPIRE if expired else BatchEvent.COMPLETE
            if batch.state is BatchState.CANCELLING:
                event = BatchEvent.WITHDRAW
            batch = replace(batch, **ends)  # type: ignore[arg-type]
            return move_batch(connection, batch, event, now)

    def _publish(
        self, connection: Connection, batch: BatchRecord, file: FinishedFile, name: str, now: float
    ) -> None:
        shown = {
            "id": file.id,
            "tenant": batch.tenant.id,
            "bytes": file.bytes,
            "blobs": dump(file.blobs),
            "filename": name,
            "now": now,
            "expires_at": now + batch.wish.output_seconds,
        }
        connection.execute(sql.PUBLISH, shown)

    @again_if_overtaken
    def forget_batches(self, kept_seconds: float) -> bool:
        with self._read() as connection:
            before = self._now(connection) - kept_seconds
            where = {"before": before, "limit": _FORGOTTEN_AT_ONCE}
            ids = connection.execute(sql.OLD, where).scalars().all()
        if not ids:
            return False
        with self._write(self._database.relaxed) as connection:
            for batch_id in ids:
                for statement in (sql.DROP_LINES, sql.DROP_WORK, sql.DROP_BATCH):
                    connection.execute(statement, {"id": batch_id})
        return True


def _retried(
    connection: Connection, tenant: Tenant, wish: BatchWish, now: float
) -> BatchRecord | None:
    """The batch that this is a retry of. Raises IdempotencyMismatch."""
    if wish.key is not None:
        where = {"tenant": tenant.id, "key": wish.key, "since": now - _KEY_SECONDS}
        row = connection.execute(sql.BY_KEY, where).first()
    elif wish.retry:
        since = now - _RETRY_SECONDS
        where = {"tenant": tenant.id, "body_hash": wish.body_hash, "since": since}
        row = connection.execute(sql.BY_BODY, where).first()
    else:
        return None
    if row is None:
        return None
    body_hash, *columns = row
    if body_hash != wish.body_hash:
        raise IdempotencyMismatch(f"Idempotency-Key {wish.key!r} was used with another body")
    return record(columns)


def _too_many(images: int, most: int) -> dict[str, Any]:
    return {
        "code": "batch_images_exceeded",
        "line": None,
        "param": None,
        "message": f"Your unended batches would have {images} images; at most {most} may be.",
    }
