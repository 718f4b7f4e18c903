"""POST /v1/responses and what there is to do with a response: pictures as a conversation."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

from fastapi import APIRouter
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from jobs.blobs.store import job_prefixes
from jobs.blobs.threads import in_store
from jobs.files import file_of
from jobs.job import Job
from serve_app.delivery.sse import EventStream
from serve_app.orders.answering import CLIENT_CLOSED, accept, order_headers, wait
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.bodies import is_large, on_disk
from serve_app.orders.callers import context_of, limit_of, orderer_of, poller_of, stay_open
from serve_app.orders.conversations import own_response
from serve_app.orders.response_stream import BEFORE_ALL, response_answer, response_events
from serve_app.orders.responses import json_response
from serve_app.orders.submission import check_order
from serve_app.orders.turns import order_of_turn
from serve_app.wire.errors import InvalidRequest, NotFound, StillQueued
from serve_app.wire.operations import answer, answered, operation, query, responding
from serve_app.wire.response_answers import (
    DeletedResponseBody,
    InputItemsBody,
    ResponseBody,
    input_items,
    order_of,
)
from serve_app.wire.response_requests import Turn, parse_turn

router = APIRouter()

ENDING_SECONDS = 60.0
MOST_LISTED = 100
ORDERS = {"asc": 1, "desc": -1}
PICTURES_IN_BODY = 4
"""As many of the largest size a body has, at most: all of it is in memory when it is read."""


@router.post("/v1/responses")
@responding("createResponse")
async def create(request: Request) -> Response:
    """Draw a picture as the next turn of a conversation: wait for it, stream it, or ask later."""
    state = app_state_of(request)
    tenant = await orderer_of(request)
    context = context_of(request, tenant)
    limits = state.config.limits
    await check_order(state, context)
    most_bytes = limits.body_bytes + PICTURES_IN_BODY * (limits.image_bytes * 4 // 3 + 4)
    async with (
        state.inputs.arriving(tenant.id, is_large(request, limits)),
        on_disk(request, limits, most_bytes) as file,
    ):

        async def read() -> Turn:
            await file.seek(0)
            return await asyncio.to_thread(parse_turn, await file.read(), limits.body_bytes)

        order = await order_of_turn(state, context, read, large=is_large(request, limits))
    if order.stream and not order.request.watched:
        stay_open(request, tenant.id)
    submission = await accept(request, order)
    headers = order_headers(state, order, submission)
    if order.stream:
        events = response_events(state, submission.job)
        return EventStream(events, state.keepalive_seconds(tenant.id), headers)
    job: Job | None = submission.job
    if order.request.watched:
        job = await wait(state, request, submission.job)
    if job is None:
        return Response(status_code=CLIENT_CLOSED)
    response = await response_answer(state, job, headers)
    response.background = BackgroundTask(state.watch.answered, job.id)  # once it has been sent
    return response


@router.get("/v1/responses/{response_id}")
@operation(
    "getResponse",
    {200: answered(answer(ResponseBody))},
    *(400, 404),
    parameters=[
        query("stream", {"type": "boolean"}),
        query("starting_after", {"type": "integer", "minimum": 0}),
    ],
)
async def show(request: Request, response_id: str) -> Response:
    """A response as it stands, or its events. Asking keeps one alive whose client waits for it."""
    state = app_state_of(request)
    job = await _own(request, response_id)
    streamed, after = _wanted(request)
    if streamed:
        stay_open(request, job.request.tenant)
        events = response_events(state, job, after, renew_now=True)
        return EventStream(events, state.keepalive_seconds(job.request.tenant))
    if job.watched_until is not None and not job.ended:
        await state.ledger.watch([job.id], state.config.gateway.watch_grace_seconds)
    return await response_answer(state, job, {})


@router.post("/v1/responses/{response_id}/cancel")
@operation("cancelResponse", {200: answer(ResponseBody)}, 400, 404)
async def cancel(request: Request, response_id: str) -> Response:
    """Cancel a background response; one that is over stays as it is."""
    state = app_state_of(request)
    job = await _own(request, response_id)
    if not order_of(job).background:
        message = (
            "Only a background response can be cancelled. Another one is cancelled when its client "
            "hangs up."
        )
        raise InvalidRequest(message, param="response_id")
    job = await state.ledger.withdraw(job.id) or job
    if job.cancel_requested:  # or a retry shares it, and still wants it
        job = await _over(state, job)
    return await response_answer(state, job, {})


@router.delete("/v1/responses/{response_id}")
@operation("deleteResponse", {200: answer(DeletedResponseBody)}, 404)
async def delete(request: Request, response_id: str) -> Response:
    """Delete a response, with its picture and all that was said; one that is drawn is cancelled."""
    state = app_state_of(request)
    job = await _own(request, response_id)
    if not job.ended:
        job = await _over(state, await state.ledger.cancel(job.id) or job)
    if not job.ended:
        raise StillQueued("The response is being cancelled: delete it again in a moment.")
    for prefix in job_prefixes(job.id):
        await in_store(state.blobs.clear, prefix)
    if job.request.source is not None:
        await state.ledger.drop_file(job.request.tenant, file_of(job.request.source.blobs[0]))
    await state.ledger.forget([job.id])
    deleted: DeletedResponseBody = {"id": response_id, "object": "response", "deleted": True}
    return json_response(deleted)


@router.get("/v1/responses/{response_id}/input_items")
@operation(
    "listInputItems",
    {200: answer(InputItemsBody)},
    *(400, 404),
    parameters=[
        query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}),
        query("order", {"type": "string", "enum": [*ORDERS]}),
        query("after", {"type": "string"}),
    ],
)
async def listed_input(request: Request, response_id: str) -> Response:
    """What was said in this turn."""
    job = await _own(request, response_id)
    limit = limit_of(request, 20, MOST_LISTED)
    order, after = request.query_params.get("order", "desc"), request.query_params.get("after")
    if order not in ORDERS:
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")
    items = input_items(job)[:: ORDERS[order]]
    places = [number for number, item in enumerate(items) if item["id"] == after]
    if after is not None and not places:
        raise InvalidRequest("'after' is no item of this response.", param="after")
    found = items[places[0] + 1 if places else 0 :]
    page = found[:limit]
    body: InputItemsBody = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }
    return json_response(body)


async def _over(state: AppState, job: Job) -> Job:
    """A job that is being cancelled, once it has ended: one that is drawn ends with its holder's
    next heartbeat. As it is, where that takes too long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(ENDING_SECONDS):
            return await state.watch.ended(job)
    return await state.ledger.get(job.id) or job


def _wanted(request: Request) -> tuple[bool, int]:
    """Whether events are asked for, and behind which number. Raises InvalidRequest."""
    stream = request.query_params.get("stream", "false").lower()
    if stream not in ("true", "false"):
        raise InvalidRequest("'stream' must be true or false.", param="stream")
    after = request.query_params.get("starting_after")
    if after is None:
        return stream == "true", BEFORE_ALL
    if not re.fullmatch(r"[0-9]{1,9}", after) or stream == "false":
        message = "'starting_after' is the number of an event, with 'stream=true'."
        raise InvalidRequest(message, param="starting_after")
    return True, int(after)


async def _own(request: Request, response_id: str) -> Job:
    """Raises NotFound."""
    tenant = await poller_of(request)
    job = await own_response(app_state_of(request), tenant.id, response_id)
    if job is None:
        raise NotFound("There is no such response.", code="response_not_found")
    return job
