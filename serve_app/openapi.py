"""GET /openapi.json: what this lane answers to, as an OpenAPI 3.1 document. Pure.

Bodies are the schemas of the models that parse them, with what a config file narrows; paths,
parameters and answers are one table. A test compares it with the routes that the gateway has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from engine.capabilities import Capabilities
from serve_app.config import ClusterConfig
from serve_app.openapi_answers import JOB_EVENT, SCHEMAS, TEXT, Schema, named, streamed
from serve_app.wire import GenerationBody

NO_NUL = "^[^\\u0000]*$"
SIZE = "^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"
KEY: list[Schema] = [{"bearer": []}]
KEY_OR_SIGNATURE: list[Schema] = [{"bearer": []}, {"signature": []}]
ASKING = (401, 429, 503)
"""What any request with a key may be told."""
ORDERING = (*ASKING, 400, 403, 404, 408, 410, 413, 422, 500)
"""And what a request for pictures may be told."""
_REQUEST_ID = {"x-request-id": {"required": True, "schema": TEXT}}
_JOB_ID = {"x-job-id": {"required": True, "schema": TEXT}}
_ERROR_HEADERS = {
    401: {"www-authenticate": {"required": True, "schema": TEXT}},
    405: {"allow": {"required": True, "schema": TEXT}},
    503: {"retry-after": {"required": True, "schema": TEXT}},
}


def document(config: ClusterConfig, can: Capabilities, root: str) -> dict[str, Any]:
    """The document. can: what the family that draws is able to. root: path below which this lane
    stands, or nothing at a host's root."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Meltproof",
            "version": "0.1.0",
            "description": "The OpenAI Images API, and jobs that survive what they run on.",
        },
        "servers": [{"url": root or "/"}],
        "security": KEY,
        "paths": _paths(config, can),
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "signature": {"type": "apiKey", "in": "query", "name": "signature"},
            },
        },
    }


def _paths(config: ClusterConfig, can: Capabilities) -> dict[str, Any]:
    job_id = _path("job_id", {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
    index = _path("index", {"type": "integer", "minimum": 0, "maximum": 9})
    job = {"200": _answer("The job", "Job", links=_of_job("$response.body#/id"))}
    return {
        "/v1/images/generations": {
            "post": _operation(
                "createImages",
                "Draw pictures: wait for them, stream them, or get a job",
                {
                    "200": _pictures("The pictures, or their events when `stream` is true"),
                    "202": _answer(
                        "The job, when `Prefer: respond-async` asks for one",
                        "Job",
                        {**_JOB_ID, "location": {"required": True, "schema": TEXT}},
                        _of_job("$response.body#/id"),
                    ),
                },
                ORDERING,
                parameters=_wishes(),
                requestBody=_body(
                    {"application/json": _parsed_as(GenerationBody, _narrowed(config, can))}
                ),
            )
        },
        "/v1/jobs": {
            "get": _operation(
                "listJobs",
                "Your newest jobs",
                {"200": _answer("Them", "Jobs", links=_of_job("$response.body#/data/0/id"))},
                (*ASKING, 400),
                parameters=[_query("limit", {"type": "integer", "minimum": 1, "maximum": 100})],
            )
        },
        "/v1/jobs/{job_id}": {
            "get": _operation("getJob", "One job", job, (*ASKING, 404), parameters=[job_id]),
            "delete": _operation(
                "cancelJob",
                "Cancel a job; again changes nothing",
                job,
                (*ASKING, 404),
                parameters=[job_id],
            ),
        },
        "/v1/jobs/{job_id}/events": {
            "get": _operation(
                "watchJob",
                "A job's states and previews as they come, until it has ended",
                {"200": _events("`job` and `preview` events")},
                (*ASKING, 404),
                parameters=[job_id, _header("Last-Event-ID", TEXT)],
            )
        },
        "/v1/jobs/{job_id}/images/{index}": {
            "get": _operation(
                "getPicture",
                "A finished picture's bytes, with a key or a signed URL",
                {"200": _file("The picture")},
                (*ASKING, 403, 404, 410),
                parameters=[job_id, index, _query("expires", TEXT)],
                security=KEY_OR_SIGNATURE,
            )
        },
        "/v1/limits": {
            "get": _operation(
                "getLimits", "Your tier and its limits", {"200": _answer("Them", "Limits")}
            ),
        },
        "/v1/status": {
            "get": _operation(
                "getStatus", "How hot the lane is", {"200": _answer("Its heat", "Status")}
            ),
        },
        "/v1/models": {
            "get": _operation(
                "listModels", "The one model of this lane", {"200": _answer("It", "Models")}
            ),
        },
        "/v1/models/{name}": {
            "get": _operation(
                "getModel",
                "That model, if it is this lane's",
                {"200": _answer("It", "Model")},
                (*ASKING, 404),
                parameters=[_path("name", {"type": "string", "examples": [config.model.name]})],
            )
        },
        "/healthz": {
            "get": _operation(
                "getHealth",
                "Whether the process answers",
                {"200": _answer("It does", "Health")},
                (),
                security=[],
            )
        },
        "/readyz": {
            "get": _operation(
                "getReadiness",
                "Whether the ledger answers, too",
                {"200": _answer("It does", "Health")},
                (503,),
                security=[],
            )
        },
        "/openapi.json": {
            "get": _operation(
                "getDescription",
                "This document",
                {
                    "200": {
                        "description": "It",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    }
                },
                (),
                security=[],
            )
        },
    }


def _operation(
    name: str,
    summary: str,
    answers: Mapping[str, Any],
    refusals: tuple[int, ...] = ASKING,
    **more: object,
) -> dict[str, Any]:
    """One method of one path. refusals: statuses whose body is the error envelope. more: parts of
    the document as they are."""
    refused = {str(status): _refusal(status) for status in sorted({*refusals, 405})}
    return {"operationId": name, "summary": summary, **more, "responses": {**answers, **refused}}


def _answer(
    description: str,
    schema: str,
    headers: Mapping[str, Any] | None = None,
    links: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {**_REQUEST_ID, **(headers or {})},
        "content": {"application/json": {"schema": named(schema)}},
        **({} if links is None else {"links": links}),
    }


def _refusal(status: int) -> dict[str, Any]:
    return _answer(HTTPStatus(status).phrase, "Error", _ERROR_HEADERS.get(status))


def _pictures(description: str) -> dict[str, Any]:
    answer = _answer(description, "Images", _JOB_ID, _of_job("$response.header.x-job-id"))
    answer["content"]["text/event-stream"] = {"schema": streamed("image_generation")}
    return answer


def _events(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _REQUEST_ID,
        "content": {"text/event-stream": {"schema": JOB_EVENT}},
    }


def _file(description: str) -> dict[str, Any]:
    types = ("image/png", "image/webp", "image/jpeg")
    return {
        "description": description,
        "headers": _REQUEST_ID,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in types},
    }


def _of_job(job_id: str) -> dict[str, Any]:
    """Where one may go on with a job."""
    return {
        "job": _link("getJob", job_id=job_id),
        "cancel": _link("cancelJob", job_id=job_id),
        "events": _link("watchJob", job_id=job_id),
        "picture": _link("getPicture", job_id=job_id, index=0),
    }


def _link(operation: str, **parameters: object) -> dict[str, Any]:
    return {"operationId": operation, "parameters": parameters}


def _path(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _header(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema}


def _wishes() -> list[dict[str, Any]]:
    return [
        _header("Prefer", {"type": "string", "examples": ["respond-async"]}),
        _header("Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,255}$"}),
        _header("X-Stainless-Retry-Count", {"type": "string"}),
    ]


def _narrowed(config: ClusterConfig, can: Capabilities) -> dict[str, Schema]:
    """What fields of any order must be besides what their model says."""
    limits = config.limits
    text = {"pattern": NO_NUL}
    return {
        "prompt": {
            "pattern": "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$",
            "minLength": 1,
            "maxLength": limits.prompt_characters,
            "examples": ["a red fox in the snow"],
        },
        "model": {"enum": [config.model.name]},
        "n": {"maximum": limits.images},
        "size": {"pattern": SIZE, "format": "image-size", "examples": ["auto"]},
        **({} if can.transparent else {"background": {"enum": ["auto", "opaque"]}}),
        "user": text,
        "safety_identifier": text,
    }


def _body(content: Mapping[str, Schema]) -> dict[str, Any]:
    """By content type."""
    return {"required": True, "content": {kind: {"schema": content[kind]} for kind in content}}


def _parsed_as(model: type[BaseModel], narrowed: Mapping[str, Schema]) -> Schema:
    """The schema that `model` parses; where there is a default, null means it."""
    schema = _parsed_by(model)
    fields = {
        name: _field(field, narrowed.get(name, {}), optional=name not in schema["required"])
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": fields}


@cache
def _parsed_by(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    return {name: schema[name] for name in schema if name not in ("title", "description")}


def _field(parsed: Mapping[str, Any], narrowed: Schema, *, optional: bool) -> Schema:
    variants = parsed.get("anyOf", [parsed])
    variant = next(variant for variant in variants if variant.get("type") != "null")
    said = {name: variant[name] for name in variant if name not in ("title", "default")}
    field = {**said, **narrowed}
    if not optional:
        return field
    default = {} if parsed.get("default") is None else {"default": parsed["default"]}
    return {"anyOf": [field, {"type": "null"}], **default}
