"""Answers to orders: submitted durably, then waited for, streamed, or handed out as a job."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

from pydantic_core import to_json
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from jobs.blobs.store import BlobMissing
from jobs.files import file_of
from jobs.job import Job
from jobs.ledger import Submission
from jobs.ledger_errors import LedgerError, LedgerUnavailable
from jobs.request import ImageRequest
from serve_app.delivery.pieces import HOLE, Part, disconnected, filled
from serve_app.delivery.sse import EventStream
from serve_app.delivery.tracing import trace_of
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.callers import stay_open
from serve_app.orders.counting import count_accepted
from serve_app.orders.pictures import finished, paced_response, picture_part, urls, without
from serve_app.orders.responses import error_response, json_response, root_path
from serve_app.orders.streaming import events
from serve_app.orders.submission import submit
from serve_app.wire import answers, requests
from serve_app.wire.errors import (
    ApiError,
    StillQueued,
)
from serve_app.wire.job_problems import job_problem
from serve_app.wire.jobs import job_body
from serve_app.wire.limits import ratelimit_headers, temporary_headers

CLIENT_CLOSED = 499


async def respond(request: Request, order: requests.ImageOrder) -> Response:
    """Submit, and answer as asked. Raises what `accept` does, and StillQueued."""
    return await answer(request, order, await accept(request, order))


async def accept(request: Request, order: requests.ImageOrder) -> Submission:
    """Submit. Raises what `submit` does, and TooManyOpen before that. The stored source of an edit
    is dropped where no new job needs it."""
    state = app_state_of(request)
    asked = replace(order.request, trace=trace_of(request.scope))
    try:
        if asked.watched:
            stay_open(request, asked.tenant)
        submission = await submit(state, asked)
    except LedgerUnavailable:
        raise  # it may have been accepted; what is not needed expires
    except (ApiError, LedgerError):
        await _drop_source(state, asked)
        raise
    count_accepted(request, asked)
    if submission.reattached:
        await _drop_source(state, asked)
    return submission


async def _drop_source(state: AppState, request: ImageRequest) -> None:
    if request.source is not None:
        with suppress(LedgerUnavailable):
            await state.ledger.drop_file(request.tenant, file_of(request.source.blobs[0]))


async def answer(request: Request, order: requests.ImageOrder, submission: Submission) -> Response:
    """What was submitted, as asked. Raises StillQueued."""
    state = app_state_of(request)
    headers = order_headers(state, order, submission)
    if not order.request.watched:
        return _accepted(state, request, submission.job, headers)
    if order.stream:
        stream = events(state, submission.job)
        return EventStream(stream, state.keepalive_seconds(order.request.tenant), headers)
    job = await wait(state, request, submission.job)
    if job is None:
        return Response(status_code=CLIENT_CLOSED)
    response = await _answer(state, request, job, as_url=order.as_url, headers=headers)
    response.background = BackgroundTask(state.watch.answered, job.id)  # once it has been sent
    return response


def order_headers(
    state: AppState, order: requests.ImageOrder, submission: Submission
) -> dict[str, str]:
    """Of the answer to an order: its job, and the tenant's limits."""
    return {
        "x-job-id": submission.job.id,
        **ratelimit_headers(submission.usage),
        **temporary_headers(state.limits.of(order.request.lane).of(order.request.tier)),
    }


def _accepted(state: AppState, request: Request, job: Job, headers: dict[str, str]) -> Response:
    location = {
        "location": f"{root_path(request)}/v1/jobs/{job.id}",
        "preference-applied": "respond-async",
    }
    body = job_body(job, None, urls(request, job))  # its position is looked up when a client asks
    response = json_response(body, 202, {**headers, **location})
    response.background = BackgroundTask(state.watch.answered, job.id)
    return response


async def wait(state: AppState, request: Request, job: Job) -> Job | None:
    """The ended job; None when the client left first. Raises StillQueued, also when this gateway
    leaves: a retry reaches another one.

    Leaving shortens the watch: the job goes on until that lapses, for a retry to find.
    """
    ended = asyncio.create_task(state.watch.ended(job))
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait(
            {ended, gone},
            timeout=state.config.gateway.sync_wait_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if ended.done() and (found := ended.result()).ended:
            return found
        if gone.done():
            return None
    finally:
        ended.cancel()
        gone.cancel()
    headers = {"location": f"{root_path(request)}/v1/jobs/{job.id}", "x-job-id": job.id}
    raise StillQueued(details={"job_id": job.id}, headers=headers)


async def _answer(
    state: AppState, request: Request, job: Job, *, as_url: bool, headers: dict[str, str]
) -> Response:
    found: dict[int, Part] = {}
    pictures: dict[int, answers.Content]
    if as_url:
        pictures = {index: {"url": link} for index, link in urls(request, job).items()}
    else:
        for render in finished(job):
            with suppress(BlobMissing):
                found[render.index] = await picture_part(state, render)
        pictures = {index: {"b64_json": HOLE} for index in found}
        job = without(job, {render.index for render in job.renders} - pictures.keys())
    if not pictures and (problem := job_problem(job)) is not None:
        return error_response(problem, headers)
    body = to_json(answers.images_response(job, pictures, state.models.cells(job.request.model)))
    content = filled(body, [found[index] for index in sorted(found)])
    return paced_response(state, job.request.tenant, content, headers, "application/json")
