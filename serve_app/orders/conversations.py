"""Conversations: whose response an id is, and which picture a turn goes on from."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.job import Job, JobState, Render, image_id
from serve_app.orders.app_state import AppState
from serve_app.orders.sources import Given, drawn, finished_image, own_image
from serve_app.wire.edits import ImageRef
from serve_app.wire.errors import ImageExpired, InvalidRequest, NotFound
from serve_app.wire.response_answers import image_of_call, job_of_response
from serve_app.wire.response_input import EarlierCall, NamedPicture
from serve_app.wire.response_requests import Turn

MOST_STEPS_BACK = 32
"""Turns without a picture that are looked past for the last one."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that was drawn here, and the parameter that names it."""

    param: str
    job: Job
    render: Render


async def own_response(state: AppState, tenant: str, response_id: str) -> Job | None:
    """The tenant's stored response; another tenant's does not exist."""
    job_id = job_of_response(response_id)
    job = await state.ledger.get(job_id) if job_id else None
    if job is None or job.request.tenant != tenant:
        return None
    return job if job.request.response is not None and job.request.response.stored else None


async def last_picture(state: AppState, tenant: str, turn: Turn) -> Drawn | NamedPicture | None:
    """The picture that was drawn last, in the input or before. Raises InvalidRequest, NotFound."""
    call, previous = turn.conversed.call, turn.body.previous_response_id
    if call is not None:
        return await _of_call(state, tenant, call)
    if previous is None:
        return None
    return await _of_previous(state, tenant, previous)


async def _of_call(state: AppState, tenant: str, call: EarlierCall) -> Drawn | NamedPicture:
    """By its id; and by what it drew, where it is not kept here."""
    image = image_of_call(call.id)
    try:
        job, render = await own_image(state, tenant, image or "")
        if job.request.response is None or job.request.response.stored:
            return Drawn(call.param, job, render)
    except NotFound:
        pass
    if call.result is not None:
        ref = ImageRef(image_url=f"data:image/png;base64,{call.result}")
        return NamedPicture(call.param, ref)
    message = f"There is no image generation call '{call.id[:64]!a}', or it drew no picture."
    raise NotFound(message, param=call.param, code="image_not_found")


async def _of_previous(state: AppState, tenant: str, previous: str) -> Drawn | NamedPicture | None:
    """The last picture of the conversation that ends with that response."""
    named: str | None = previous
    for step in range(MOST_STEPS_BACK):
        job = await own_response(state, tenant, named) if named else None
        if job is None and step == 0:
            message = f"Previous response with id {previous[:64]!a} not found."
            raise InvalidRequest(
                message, param="previous_response_id", code="previous_response_not_found"
            )
        if job is None or job.request.response is None:
            return None
        if not job.ended:
            message = f"The previous response {named} has no picture yet: wait until it is over."
            raise InvalidRequest(message, param="previous_response_id")
        if job.state is JobState.SUCCEEDED:
            return Drawn("previous_response_id", job, finished_image(job, 0))
        named = job.request.response.previous
    return None


async def picture_of(state: AppState, source: ImageRef | Drawn) -> Given:
    """What is named so, read where it was drawn here. Raises ImageExpired."""
    if isinstance(source, ImageRef):
        return source
    try:
        image = image_id(source.job.id, source.render.index)
        return await drawn(state, source.job, source.render, image)
    except ImageExpired as expired:
        expired.param = source.param
        raise
