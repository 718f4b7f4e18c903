"""Lines become jobs, a bounded number of them at a time, and end as their jobs do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus

from pydantic_core import to_json

from jobs.batches import BatchLine, BatchRecord
from jobs.blobs.parts import read_range
from jobs.blobs.store import BlobMissing
from jobs.files import StoredFile
from jobs.request import ImageRequest
from serve_app.batches.ordering import ordered_line
from serve_app.orders.app_state import AppState
from serve_app.wire.errors import ApiError, Unavailable

log = logging.getLogger(__name__)
QUEUED = 64
"""Jobs of one batch that wait in a queue: a claim finds some whenever a slot is free, and what a
crash or a cancel has to look at stays small."""
AT_ONCE = 32
"""Lines that are ordered in one transaction."""
STOPPED_AT_ONCE = 200


async def feed(state: AppState, batch: BatchRecord) -> int:
    """As many lines as there is room for; how many became jobs or were refused. Raises
    BatchLeaseLost, LedgerUnavailable, StoreUnavailable."""
    room = QUEUED - await state.ledger.queued_lines(batch.id)
    if room < min(AT_ONCE, QUEUED // 2) or await _must_wait(state, batch):
        return 0
    lines = await state.ledger.waiting_lines(batch.id, min(room, AT_ONCE))
    file = await state.ledger.batch_input(batch.id) if lines else None
    requests: dict[int, ImageRequest] = {}
    errors: dict[int, str] = {}
    for line in lines:
        try:
            requests[line.line] = await ordered_line(state, batch, await _text(state, file, line))
        except ApiError as problem:
            if not _is_final(problem):
                log.info("line %s of %s waits: %s", line.line, batch.id, problem)
                break
            answer = {"status": problem.status, "body": problem.envelope()}
            errors[line.line] = to_json(answer).decode()
    if errors:
        await state.ledger.refuse_lines(batch.id, batch.fence, errors)
    if requests:
        await state.ledger.feed_lines(batch.id, batch.fence, requests)
    return len(requests) + len(errors)


def _is_final(problem: ApiError) -> bool:
    """Whether asking again is of no use: neither load nor an outage."""
    return problem.status < HTTPStatus.INTERNAL_SERVER_ERROR and problem.status not in (
        HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT,
    )  # fmt: skip


async def _must_wait(state: AppState, batch: BatchRecord) -> bool:
    """Too many of the tenant's orders were blocked lately: its lines wait as its orders do."""
    rules = state.config.strikes.rules()
    if rules.blocks is None:
        return False
    strikes = await state.ledger.strikes(batch.tenant.id, rules.within_seconds)
    return rules.wait_seconds(strikes) > 0


async def _text(state: AppState, file: StoredFile | None, line: BatchLine) -> bytes:
    try:
        if file is None:
            raise BlobMissing(line.custom_id)
        return await read_range(state.blobs, file.blobs, file.bytes, line.offset, line.size)
    except BlobMissing:
        raise Unavailable("The batch's input file cannot be read.") from None


async def stop(state: AppState, batch: BatchRecord) -> bool:
    """Lines of a batch that ends early: whether none is open any more. Raises as `feed` does."""
    jobs: Sequence[str] | None = await state.ledger.stop_lines(
        batch.id, batch.fence, STOPPED_AT_ONCE
    )
    for job_id in jobs or ():
        await state.ledger.cancel(job_id)
    return jobs is None
