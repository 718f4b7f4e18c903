"""The events of a response, in order and numbered. Pure.

A number says which event it is, whatever gateway sends it and whenever: a client that comes back
with `starting_after` gets those that it has not seen. Previews that came too late to be shown leave
their numbers out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from typing_extensions import TypedDict

from jobs.job import Job, JobState, RenderState
from jobs.request import preview_passes
from serve_app.wire.answers import looks
from serve_app.wire.errors import ApiError
from serve_app.wire.fields import Count, OutputFormat, PixelSize
from serve_app.wire.response_answers import (
    ImageCallBody,
    ResponseBody,
    Status,
    call_id,
    image_call,
    is_begun,
    is_drawn,
    order_of,
    response_body,
    status_of,
)


class Happens(Enum):
    """What events tell of."""

    CREATED = auto()
    QUEUED = auto()
    IN_PROGRESS = auto()
    ADDED = auto()
    CALLED = auto()
    GENERATING = auto()
    PREVIEW = auto()
    DRAWN = auto()
    DONE = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Due:
    """An event that a job's state has made. number: its place among all of them. preview: from 0;
    pass_no: the pass that it shows."""

    number: int
    what: Happens
    preview: int = 0
    pass_no: int = 0


CallEventType = Literal[
    "response.image_generation_call.in_progress",
    "response.image_generation_call.generating",
    "response.image_generation_call.completed",
]


class ResponseEvent(TypedDict):
    """Of the response as a whole."""

    type: Literal[
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.completed",
        "response.failed",
    ]
    sequence_number: Count
    response: ResponseBody


class ItemEvent(TypedDict):
    """Of its one item."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    sequence_number: Count
    output_index: Count
    item: ImageCallBody


class CallEvent(TypedDict):
    """Of the call of the tool."""

    type: CallEventType
    sequence_number: Count
    output_index: Count
    item_id: str


class PreviewedEvent(TypedDict):
    """A preview of the picture."""

    type: Literal["response.image_generation_call.partial_image"]
    sequence_number: Count
    output_index: Count
    item_id: str
    partial_image_index: Count
    partial_image_b64: str
    background: str
    output_format: OutputFormat
    quality: str
    size: PixelSize


class StreamProblemEvent(TypedDict):
    """The stream ends before the response does."""

    type: Literal["error"]
    sequence_number: Count
    code: str | None
    message: str
    param: str | None


_CALL_EVENTS: Mapping[Happens, CallEventType] = {
    Happens.CALLED: "response.image_generation_call.in_progress",
    Happens.GENERATING: "response.image_generation_call.generating",
    Happens.DRAWN: "response.image_generation_call.completed",
}
AnyEvent = ResponseEvent | ItemEvent | CallEvent | PreviewedEvent


def due(job: Job) -> Iterator[Due]:
    """All events up to this state of the job, by their numbers."""
    queued = order_of(job).background
    planned = preview_passes(job.request.passes, job.request.partial_images)
    first = queued + 5  # of the previews
    yield Due(0, Happens.CREATED)
    if queued:
        yield Due(1, Happens.QUEUED)
    if not queued or is_begun(job):
        yield Due(queued + 1, Happens.IN_PROGRESS)
    if is_begun(job):
        yield Due(queued + 2, Happens.ADDED)
        yield Due(queued + 3, Happens.CALLED)
    if is_drawn(job):
        yield Due(queued + 4, Happens.GENERATING)
    [render] = job.renders
    if render.state is not RenderState.BLOCKED:
        for pass_no in sorted(render.previews):
            preview = sum(one < pass_no for one in planned)
            yield Due(first + preview, Happens.PREVIEW, preview, pass_no)
    if job.state is JobState.SUCCEEDED:
        yield Due(first + len(planned), Happens.DRAWN)
    if job.ended and is_begun(job):
        yield Due(first + len(planned) + 1, Happens.DONE)
    if job.ended:
        yield Due(first + len(planned) + 2, Happens.ENDED)


def event_of(one: Due, job: Job, picture: str | None, cells: int) -> AnyEvent:
    """The event as it is sent. picture: in base64, where it has one: a preview, or the image. Those
    of the beginning tell of it, however far the job is now."""
    number, begun = one.number, image_call(job, picture)
    match one.what:
        case Happens.CREATED:
            status: Status = "queued" if order_of(job).background else "in_progress"
            body = response_body(job, [], cells, status)
            return {"type": "response.created", "sequence_number": number, "response": body}
        case Happens.QUEUED:
            body = response_body(job, [], cells, "queued")
            return {"type": "response.queued", "sequence_number": number, "response": body}
        case Happens.IN_PROGRESS:
            body = response_body(job, [], cells, "in_progress")
            return {"type": "response.in_progress", "sequence_number": number, "response": body}
        case Happens.ADDED:
            return _item_event("added", number, early_call(job))
        case Happens.DONE:
            return _item_event("done", number, begun)
        case Happens.PREVIEW:
            return _preview_event(one, job, picture or "")
        case Happens.ENDED:
            output = [begun] if is_begun(job) else []
            body = response_body(job, output, cells)
            completed = status_of(job) == "completed"
            return {
                "type": "response.completed" if completed else "response.failed",
                "sequence_number": number,
                "response": body,
            }
        case _:
            return _call_event(one, job)


def early_call(job: Job) -> ImageCallBody:
    """The call as it was when it began."""
    call = image_call(job, None)
    call["status"] = "in_progress"
    call.pop("error", None)
    return call


def _item_event(what: Literal["added", "done"], number: int, item: ImageCallBody) -> ItemEvent:
    return {
        "type": "response.output_item.added" if what == "added" else "response.output_item.done",
        "sequence_number": number,
        "output_index": 0,
        "item": item,
    }


def _call_event(one: Due, job: Job) -> CallEvent:
    return {
        "type": _CALL_EVENTS[one.what],
        "sequence_number": one.number,
        "output_index": 0,
        "item_id": call_id(job.id),
    }


def _preview_event(one: Due, job: Job, picture: str) -> PreviewedEvent:
    return {
        "type": "response.image_generation_call.partial_image",
        "sequence_number": one.number,
        "output_index": 0,
        "item_id": call_id(job.id),
        "partial_image_index": one.preview,
        "partial_image_b64": picture,
        **looks(job.request),
    }


def problem_event(problem: ApiError, number: int) -> StreamProblemEvent:
    """The last event of a stream whose response goes on elsewhere. number: of the last one before,
    from which a client goes on."""
    return {
        "type": "error",
        "sequence_number": max(number, 0),
        "code": problem.code,
        "message": problem.message,
        "param": problem.param,
    }
