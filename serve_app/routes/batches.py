"""Batches: files of requests that are drawn within a day."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from jobs.batches import BatchRecord, BatchState
from jobs.ledger_errors import BatchesFull
from serve_app.orders.app_state import app_state_of
from serve_app.orders.bodies import read_body
from serve_app.orders.callers import charge_rows, limit_of, orderer_of, poller_of
from serve_app.orders.responses import json_response
from serve_app.orders.sources import FILE_ID, no_file
from serve_app.wire.batches import (
    BATCH_ID,
    MOST_LISTED,
    BatchBody,
    BatchesBody,
    batch_body,
    batches_body,
    parse_batch,
)
from serve_app.wire.errors import InvalidRequest, NotFound, TooManyRequests
from serve_app.wire.operations import answer, link, operation, query
from serve_app.wire.requests import parse_options

router = APIRouter()
LINKS = (("batch", "getBatch"), ("cancel", "cancelBatch"))
PAGE = (
    query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}),
    query("after", {"type": "string", "pattern": "^batch_[0-9a-f]{32}$"}),
)


@router.post("/v1/batches")
@operation(
    "createBatch",
    {
        200: answer(
            BatchBody, **{name: link(to, batch_id="$response.body#/id") for name, to in LINKS}
        )
    },
    *(400, 403, 404, 408, 413, 415, 422),
)
async def create(request: Request) -> Response:
    """Draw what each line of a file asks for, within a day."""
    state = app_state_of(request)
    tenant = await orderer_of(request)
    options = parse_options(request.headers)
    limits = state.config.limits
    async with state.inputs.arriving(tenant.id, large=False):
        raw = await read_body(request, limits)
    wish = parse_batch(raw, limits.body_bytes, state.config.retention.files_seconds)
    if state.config.tiers[tenant.tier].batch_images == 0:
        raise InvalidRequest("Your tier has no batches.", code="batches_closed")
    if not FILE_ID.fullmatch(wish.input_file):
        raise no_file("input_file_id")
    wish = replace(wish, key=options.idempotency_key, retry=options.retry_count > 0)
    try:
        batch = await state.ledger.add_batch(state.config.lane, tenant, wish, limits.batches)
    except KeyError:
        raise no_file("input_file_id") from None
    except BatchesFull as full:
        raise TooManyRequests(
            f"{full.most} of your batches have not ended, and no more may be open.",
            headers={"retry-after": "60"},
        ) from None
    state.new_batches.set()
    return json_response(batch_body(batch))


@router.get("/v1/batches")
@operation("listBatches", {200: answer(BatchesBody)}, 400, parameters=PAGE)
async def recent(request: Request) -> Response:
    """Your batches, newest first."""
    tenant = await poller_of(request)
    limit = limit_of(request, 20, MOST_LISTED)
    after = request.query_params.get("after")
    if after is not None and not BATCH_ID.fullmatch(after):
        raise InvalidRequest("'after' must be the id of a batch.", param="after")
    found = await app_state_of(request).ledger.batches(tenant.id, limit + 1, after)
    charge_rows(request, tenant, len(found))
    return json_response(batches_body(found, limit))


@router.get("/v1/batches/{batch_id}")
@operation("getBatch", {200: answer(BatchBody)}, 404)
async def show(request: Request, batch_id: str) -> Response:
    """One batch."""
    tenant = await poller_of(request)
    known = BATCH_ID.fullmatch(batch_id)
    found = await app_state_of(request).ledger.batch(tenant.id, batch_id) if known else None
    return json_response(batch_body(_there(found)))


@router.post("/v1/batches/{batch_id}/cancel")
@operation("cancelBatch", {200: answer(BatchBody)}, 400, 404)
async def cancel(request: Request, batch_id: str) -> Response:
    """Stop a batch: what was drawn stays, and is in its output file."""
    tenant = await poller_of(request)
    known = BATCH_ID.fullmatch(batch_id)
    found = await app_state_of(request).ledger.cancel_batch(tenant.id, batch_id) if known else None
    batch = _there(found)
    if batch.state not in (BatchState.CANCELLING, BatchState.CANCELLED):
        message = f"A batch that is {batch.state} cannot be cancelled."
        raise InvalidRequest(message, code="batch_not_cancellable")
    return json_response(batch_body(batch))


def _there(batch: BatchRecord | None) -> BatchRecord:
    if batch is None:
        raise NotFound("There is no such batch.", code="batch_not_found")
    return batch
