"""What the OpenAPI document says of a route, said by a decorator on it.

The first sentence of the route's docstring is its summary; an answer is described by the docstring
of its type. Types stand where their schemas go: openapi.py puts those in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from inspect import cleandoc
from typing import Any, TypeVar, get_args, get_type_hints

from serve_app.wire.answers import CompletedEvent, FailedEvent, ImagesBody, PartialEvent
from serve_app.wire.errors import ErrorBody
from serve_app.wire.jobs import JobBody, PreviewEvent
from serve_app.wire.response_answers import ResponseBody
from serve_app.wire.response_events import (
    CallEvent,
    ItemEvent,
    PreviewedEvent,
    ResponseEvent,
    StreamProblemEvent,
)

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])
Schema = dict[str, Any]
JSON = "application/json"

OPERATIONS: dict[Callable[..., object], Schema] = {}
"""By endpoint, filled while the routes are imported."""
TEXT: Schema = {"type": "string"}
FILE: Schema = {"type": "string", "format": "binary"}
KEYLESS: list[Schema] = []
OPERATOR: list[Schema] = [{"bearer": ["operator"]}]
"""A key or token with that role."""
KEY_OR_SIGNATURE: list[Schema] = [{"bearer": []}, {"signature": []}]
KEYED_REFUSALS = (401, 429, 503)
ORDER_REFUSALS = (400, 403, 404, 408, 410, 413, 415, 422, 500)
REFUSAL_HEADERS = {401: ["www-authenticate"], 405: ["allow"], 503: ["retry-after"]}


def operation(
    name: str,
    answers: Mapping[int, Schema],
    *refusals: int,
    parameters: Sequence[Schema] = (),
    security: list[Schema] | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Describes a route. refusals: statuses with the error envelope, beside those that any route
    has, or any with a key. security: None is a key."""
    statuses = {405, *refusals, *(() if security is KEYLESS else KEYED_REFUSALS)}
    statuses |= {403} if security is OPERATOR else set()
    refused = {status: refusal(status) for status in sorted(statuses)}

    def describe(endpoint: Endpoint) -> Endpoint:
        summary = " ".join(cleandoc(endpoint.__doc__ or "").split()).partition(". ")[0]
        OPERATIONS[endpoint] = {
            "operationId": name,
            "summary": summary.removesuffix("."),
            **({} if security is None else {"security": security}),
            "parameters": list(parameters),
            "responses": {str(status): said for status, said in ({**answers, **refused}).items()},
        }
        return endpoint

    return describe


def ordering(name: str, kind: str) -> Callable[[Endpoint], Endpoint]:
    """Describes a route that draws. kind: how the names of its events begin."""
    made = answer(
        ImagesBody, "x-job-id", **of_job("$response.header.x-job-id"), **of_image("/data/0/id")
    )
    made["content"]["text/event-stream"] = {"schema": image_events(kind)}
    made["description"] = "The images, or their events when `stream` is true"
    job = answer(JobBody, "x-job-id", "location", **of_job("$response.body#/id"))
    job["description"] = "The job, when `Prefer: respond-async` asks for one"
    return operation(name, {200: made, 202: job}, *ORDER_REFUSALS, parameters=ORDER_HEADERS)


def responding(name: str) -> Callable[[Endpoint], Endpoint]:
    """Describes the route that draws as a turn of a conversation."""
    made = answer(
        ResponseBody, "x-job-id", response=link("getResponse", response_id="$response.body#/id")
    )
    return operation(name, {200: answered(made)}, *ORDER_REFUSALS, parameters=ORDER_HEADERS[1:])


def answered(made: Schema) -> Schema:
    """A response, or its events."""
    made["content"]["text/event-stream"] = {"schema": RESPONSE_EVENTS}
    made["description"] = "The response, or its events when `stream` is true"
    return made


def answer(kind: type, *headers: str, **links: Schema) -> Schema:
    """A JSON answer of that type."""
    described = media(cleandoc(kind.__doc__ or "").removesuffix("."), {JSON: kind})
    described["headers"] |= _headers(*headers)
    return {**described, "links": links} if links else described


def refusal(status: int) -> Schema:
    """The error envelope."""
    described = answer(ErrorBody, *REFUSAL_HEADERS.get(status, ()))
    return {**described, "description": HTTPStatus(status).phrase}


def media(description: str, schemas: Mapping[str, object]) -> Schema:
    """An answer by media type."""
    return {
        "description": description,
        "headers": _headers("x-request-id"),
        "content": {name: {"schema": schema} for name, schema in schemas.items()},
    }


def _headers(*names: str) -> Schema:
    return {name: {"required": True, "schema": TEXT} for name in names}


def of_job(job_id: str) -> dict[str, Schema]:
    """Links to what there is to do with a job."""
    return {
        "job": link("getJob", job_id=job_id),
        "cancel": link("cancelJob", job_id=job_id),
        "events": link("watchJob", job_id=job_id),
        "picture": link("getPicture", job_id=job_id, index=0),
    }


def of_image(pointer: str) -> dict[str, Schema]:
    """Links to what there is to do with an image, whose id is there in the body."""
    image_id = f"$response.body#{pointer}"
    named = {"prompt": "a red fox in the snow", "images": [{"file_id": image_id}]}
    return {
        "image": link("getImage", image_id=image_id),
        "lineage": link("getLineage", image_id=image_id),
        "tweak": link("tweakImage", image_id=image_id),
        "edit": {"operationId": "createEdits", "requestBody": named},
    }


def link(operation: str, **parameters: object) -> Schema:
    """To another operation."""
    return {"operationId": operation, "parameters": parameters}


def query(name: str, schema: Schema) -> Schema:
    """A parameter behind the question mark."""
    return {"name": name, "in": "query", "schema": schema}


def header(name: str, schema: Schema) -> Schema:
    """A parameter among the headers."""
    return {"name": name, "in": "header", "schema": schema}


def event(name: str, data: object) -> Schema:
    """A server-sent event whose data is JSON."""
    inside = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return {
        "type": "object",
        "properties": {"event": {"const": name}, "data": inside, "id": TEXT},
        "required": ["event", "data"],
        "additionalProperties": False,
    }


def image_events(kind: str) -> Schema:
    """The events of a stream of images. kind: `image_generation`, say."""
    kinds = {"partial_image": PartialEvent, "completed": CompletedEvent, "failed": FailedEvent}
    typed = [
        event(
            f"{kind}.{name}",
            {"allOf": [data, {"properties": {"type": {"const": f"{kind}.{name}"}}}]},
        )
        for name, data in kinds.items()
    ]
    return {"anyOf": [*typed, event("error", ErrorBody)]}


def response_events() -> Schema:
    """The events of a response: each is called what its `type` says."""
    names = (
        (name, kind)
        for kind in (ResponseEvent, ItemEvent, CallEvent, PreviewedEvent, StreamProblemEvent)
        for name in get_args(get_type_hints(kind)["type"])
    )
    typed = [
        event(name, {"allOf": [kind, {"properties": {"type": {"const": name}}}]})
        for name, kind in names
    ]
    return {"anyOf": [*typed, event("error", ErrorBody)]}


RESPONSE_EVENTS = response_events()
JOB_EVENTS: Schema = {"anyOf": [event("job", JobBody), event("preview", PreviewEvent)]}
ORDER_HEADERS = [
    header("Prefer", {"type": "string", "examples": ["respond-async"]}),
    header("Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,255}$"}),
    header("X-Stainless-Retry-Count", TEXT),
]
