"""A response as it is answered: whole, or as a stream of events from any point of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from pydantic_core import to_json
from starlette.responses import Response

from jobs.blobs.store import BlobMissing
from jobs.job import Job
from serve_app.delivery.pieces import HOLE, Part, filled
from serve_app.delivery.sse import Event, frame
from serve_app.orders.app_state import AppState
from serve_app.orders.pictures import (
    finished,
    paced,
    paced_response,
    picture_part,
    preview_part,
)
from serve_app.wire.errors import StillQueued
from serve_app.wire.response_answers import image_call, is_begun, response_body
from serve_app.wire.response_events import Due, Happens, due, event_of, problem_event

BEFORE_ALL = -1
"""The number of no event."""
WITH_PICTURE = (Happens.DONE, Happens.ENDED)


async def response_answer(state: AppState, job: Job, headers: dict[str, str]) -> Response:
    """The response with its picture, if that is drawn and still kept."""
    part = await _picture(state, job)
    output = [image_call(job, None if part is None else HOLE)] if is_begun(job) else []
    body = response_body(job, output, state.models.cells(job.request.model))
    content = filled(to_json(body), [] if part is None else [part])
    return paced_response(state, job.request.tenant, content, headers, "application/json")


async def response_events(
    state: AppState, job: Job, after: int = BEFORE_ALL, *, renew_now: bool = False
) -> AsyncGenerator[Event]:
    """From any state of the job to its end, or to that of this gateway: the events behind the
    number `after`. renew_now: the job was not submitted just now."""
    async with aclosing(state.watch.snapshots(job, renew_now=renew_now)) as states:
        async for job in states:
            for one in due(job):
                if one.number <= after:  # sent, or a preview behind a clearer one
                    continue
                after = one.number
                found, part = await _part(state, job, one)
                if not found:
                    continue
                cells = state.models.cells(job.request.model)
                event = event_of(one, job, None if part is None else HOLE, cells)
                content = filled(frame(event, event["type"]), [] if part is None else [part])
                pieces = paced(state, job.request.tenant, content)
                async with state.large.turn(job.request.tenant, pieces.size):
                    yield pieces
    if not job.ended:  # this gateway leaves, and the end is still to come
        yield frame(problem_event(StillQueued(), after), "error")
        return
    await state.watch.answered(job.id)


async def _part(state: AppState, job: Job, one: Due) -> tuple[bool, Part | None]:
    """Whether the event can be sent, and what stands in its hole."""
    if one.what is Happens.PREVIEW:
        part = await preview_part(state, job, 0, one.pass_no)
        return part is not None, part
    return True, await _picture(state, job) if one.what in WITH_PICTURE else None


async def _picture(state: AppState, job: Job) -> Part | None:
    for render in finished(job):
        with suppress(BlobMissing):
            return await picture_part(state, render)
    return None
