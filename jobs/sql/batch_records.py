"""Rows of batches to records, and moves of a batch, inside a transaction. Of SqlLedger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from jobs.batches import (
    ENDED,
    STAMPS,
    BatchEvent,
    BatchLeaseLost,
    BatchLine,
    BatchRecord,
    BatchState,
    BatchWish,
    LineState,
    after,
)
from jobs.db import batch_tables as sql
from jobs.request import Tenant
from jobs.sql.events import write_events
from jobs.webhooks import WebhookEvent, event_id


def record(row: Sequence[Any]) -> BatchRecord:
    """A row of batch_tables.COLUMNS."""
    (
        batch_id, tenant, tier, state, input_file, endpoint, metadata, window_seconds,
        output_seconds, created_at, expires_at, stamps, fence, total, completed, failed, images,
        model, errors, output_file, error_file, input_tokens, output_tokens,
    ) = row  # fmt: skip
    return BatchRecord(
        id=batch_id,
        tenant=Tenant(tenant, tier),
        state=BatchState(state),
        wish=BatchWish(
            input_file=input_file,
            endpoint=endpoint,
            metadata=json.loads(metadata),
            output_seconds=output_seconds,
            window_seconds=window_seconds,
        ),
        fence=fence,
        created_at=created_at,
        expires_at=expires_at,
        stamps=json.loads(stamps),
        total=total,
        completed=completed,
        failed=failed,
        images=images,
        model=model,
        errors=json.loads(errors),
        output_file=output_file,
        error_file=error_file,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )


def line_of(row: Sequence[Any]) -> BatchLine:
    """A row of batch_tables.LINE_COLUMNS."""
    line, custom_id, offset, size, state, job_id, error = row
    return BatchLine(line, custom_id, offset, size, LineState(state), job_id, error)


def move_batch(
    connection: Connection, batch: BatchRecord, event: BatchEvent, now: float
) -> BatchRecord:
    """The only place where a batch's state is written, for a batch that is locked: what webhooks
    tell of its end is written here, in the same transaction. Raises BatchTransitionError."""
    state = after(batch.state, event)
    moved = replace(batch, state=state, stamps={**batch.stamps, STAMPS[state]: now})
    connection.execute(
        sql.MOVE,
        {
            "id": batch.id,
            "state": state,
            "stamps": json.dumps(moved.stamps),
            "ended_at": now if state in ENDED else None,
        },
    )
    if state in ENDED:
        kind = f"batch.{state}"
        told = WebhookEvent(event_id(kind, batch.id), batch.tenant.id, kind, {"id": batch.id})
        write_events(connection, [told], now)
        connection.execute(sql.DROP_WORK, {"id": batch.id})
    return moved


def held_batch(connection: Connection, batch_id: str, fence: int) -> BatchRecord:
    """Locked until the transaction ends. Raises BatchLeaseLost."""
    row = connection.execute(sql.LOCKED, {"id": batch_id}).first()
    batch = None if row is None else record(row)
    if batch is None or batch.fence != fence or batch.ended:
        raise BatchLeaseLost(batch_id)
    return batch
