"""An order for pictures: accept it durably, then wait, stream, or hand out the job.

Everything is decided by then: this file only submits, watches and answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from pydantic_core import to_json
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from dispatch.in_flight import preview_passes
from jobs.blobs.store import BlobMissing
from jobs.files import file_of
from jobs.job import Job, Render, RenderState
from jobs.ledger import (
    LedgerError,
    LedgerUnavailable,
    Submission,
)
from jobs.request import ImageRequest, Tenant
from serve_app.admission.queue import LineFull
from serve_app.delivery.disconnects import disconnected
from serve_app.delivery.pieces import HOLE, Part, filled, pieces_response
from serve_app.delivery.sse import Event, EventStream, frame
from serve_app.orders.admission import REFUSALS, refusal
from serve_app.orders.app_state import (
    AppState,
    app_state_of,
    error_response,
    json_response,
    keepalive_of,
    stay_open,
)
from serve_app.orders.links import root_path
from serve_app.orders.pictures import finished, paced, picture_part, preview_part, urls, without
from serve_app.wire import answers, requests
from serve_app.wire.errors import (
    ApiError,
    LineIsFull,
    StillQueued,
)
from serve_app.wire.job_problems import job_problem, render_problem
from serve_app.wire.jobs import job_body
from serve_app.wire.limits import ratelimit_headers, temporary_headers

CLIENT_CLOSED = 499


async def respond(request: Request, order: requests.Order) -> Response:
    """Submit, and answer as asked. Raises what `submit` does, TooManyOpen before
    that, and StillQueued. The stored source of an edit goes again where no new job needs it."""
    state, asked = app_state_of(request), order.request
    try:
        if asked.watched:
            stay_open(request, asked.tenant)
        submission = await submit(state, asked)
    except LedgerUnavailable:
        raise  # nobody knows whether it was accepted; what is not needed expires
    except (ApiError, LedgerError):
        await _drop_source(state, asked)
        raise
    if submission.reattached:
        await _drop_source(state, asked)
    return await answer(request, order, submission)


async def _drop_source(state: AppState, request: ImageRequest) -> None:
    if request.source is not None:
        with suppress(LedgerUnavailable):
            await state.ledger.drop_file(request.tenant, file_of(request.source.canvas))


async def answer(request: Request, order: requests.Order, submission: Submission) -> Response:
    """What was submitted, as asked. Raises StillQueued."""
    state = app_state_of(request)
    headers = {
        "x-job-id": submission.job.id,
        **ratelimit_headers(submission.usage),
        **temporary_headers(state.limits.of(order.request.tier)),
    }
    if not order.request.watched:
        return _accepted(state, request, submission.job, headers)
    if order.stream:
        events = _events(state, submission)
        return EventStream(events, keepalive_of(state, order.request.tenant), headers)
    job = await _wait(state, request, submission)
    if job is None:
        return Response(status_code=CLIENT_CLOSED)
    response = await _answer(state, request, job, as_url=order.as_url, headers=headers)
    response.background = BackgroundTask(state.watch.answered, job.id)  # once it has been sent
    return response


async def submit(state: AppState, request: ImageRequest) -> Submission:
    """At its predicted cost, when its turn comes. Raises what Ledger.submit does, LineIsFull,
    QueueIsFull, which says when a place will be free, and the refusals of temporary limits."""
    request = await state.prices.priced(request)
    weight = state.config.tiers[request.tier].weight
    try:
        async with state.line.place(request.tenant, weight, len(request.prompt)):
            return await state.ledger.submit(request)
    except LineFull:
        raise LineIsFull from None
    except REFUSALS as error:
        tenant = Tenant(request.tenant, request.tier)
        raise await refusal(state, error, tenant, request.n) from None


def _accepted(state: AppState, request: Request, job: Job, headers: dict[str, str]) -> Response:
    location = {
        "location": f"{root_path(request)}/v1/jobs/{job.id}",
        "preference-applied": "respond-async",
    }
    body = job_body(job, None, urls(request, job))  # its place is looked up when somebody asks
    response = json_response(body, 202, {**headers, **location})
    response.background = BackgroundTask(state.watch.answered, job.id)
    return response


async def _wait(state: AppState, request: Request, submission: Submission) -> Job | None:
    """The ended job; None when the client left first. Raises StillQueued.

    Leaving shortens the watch: the job goes on until that lapses, for a retry to find.
    """
    job = submission.job
    ended = asyncio.create_task(state.watch.ended(job))
    gone = asyncio.create_task(disconnected(request.receive))
    try:
        await asyncio.wait(
            {ended, gone},
            timeout=state.config.gateway.sync_wait_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if ended.done():
            return ended.result()
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
    body = to_json(answers.images_response(job, pictures, state.can.cells))
    pieces = paced(state, job, filled(body, [found[index] for index in sorted(found)]))
    turn = state.large.turn(job.request.tenant, pieces.size)
    return pieces_response(pieces, turn, headers, "application/json")


News = tuple[dict[str, Any], Sequence[Part]]
"""An event, and the pictures for the holes in it."""


class Progress:
    """What one stream has sent, so that every state is turned into what is new in it. Looks at two
    previews end in any order: one that comes after a clearer one is not sent any more."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._newest: dict[int, int] = {}
        self._settled: set[int] = set()
        self._completed = 0
        self.missing: set[int] = set()
        """Images whose picture is not in the store."""

    async def news(self, job: Job) -> AsyncGenerator[News]:
        """Events that this state adds to what was sent before."""
        for render in job.renders:
            if render.index in self._settled:
                continue
            if render.state is not RenderState.BLOCKED:
                async for event in self._partials(job, render):
                    yield event
            if render.state is RenderState.SUCCEEDED and render.blob is not None:
                self._settled.add(render.index)
                try:
                    yield await self._completed_event(job, render)
                except BlobMissing:
                    self.missing.add(render.index)
                    if job.request.n > 1:
                        yield answers.failed_event(job, replace(render, blob=None)), ()
            elif render_problem(render) is not None and job.request.n > 1:
                self._settled.add(render.index)
                yield answers.failed_event(job, render), ()

    async def _partials(self, job: Job, render: Render) -> AsyncGenerator[News]:
        planned = preview_passes(job.request.passes, job.request.partial_images)
        for pass_no in sorted(render.previews):
            if pass_no <= self._newest.get(render.index, 0):
                continue
            self._newest[render.index] = pass_no
            part = await preview_part(self._state, job, render.index, pass_no)
            if part is not None:
                number = sum(one < pass_no for one in planned)
                yield answers.partial_event(job, render.index, number, HOLE), (part,)

    async def _completed_event(self, job: Job, render: Render) -> News:
        part = await picture_part(self._state, render)
        used = answers.usage(job.request, 1, self._state.can.cells)
        if self._completed:  # what came in is counted once, with the first image
            used = answers.without_input(used)
        self._completed += 1
        return answers.completed_event(job, render.index, HOLE, used), (part,)


async def _events(state: AppState, submission: Submission) -> AsyncGenerator[Event]:
    """The stream of one request, from any state to the end."""
    progress = Progress(state)
    job = submission.job
    async with aclosing(state.watch.snapshots(job)) as states:
        async for job in states:
            async with aclosing(progress.news(job)) as news:
                async for event, pictures in news:
                    pieces = paced(state, job, filled(frame(event, event["type"]), pictures))
                    async with state.large.turn(job.request.tenant, pieces.size):
                        yield pieces
    job = without(job, progress.missing)
    if not finished(job) and (problem := job_problem(job)) is not None:
        yield frame(problem.envelope(), "error")
    await state.watch.answered(job.id)
