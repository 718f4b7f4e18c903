"""What operations of the OpenAPI document are made of: answers, links, parameters, bodies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from serve_app.wire.openapi_answers import JOB_EVENT, TEXT, Schema, named, streamed

ASKING = (401, 429, 503)
"""What any request with a key may be told."""
_REQUEST_ID = {"x-request-id": {"required": True, "schema": TEXT}}
JOB_ID = {"x-job-id": {"required": True, "schema": TEXT}}
_ERROR_HEADERS = {
    401: {"www-authenticate": {"required": True, "schema": TEXT}},
    405: {"allow": {"required": True, "schema": TEXT}},
    503: {"retry-after": {"required": True, "schema": TEXT}},
}


def operation(
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


def answer(
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
    return answer(HTTPStatus(status).phrase, "Error", _ERROR_HEADERS.get(status))


def pictures(description: str, kind: str) -> dict[str, Any]:
    links = of_job("$response.header.x-job-id") | of_image("$response.body#/data/0/id")
    made = answer(description, "Images", JOB_ID, links)
    made["content"]["text/event-stream"] = {"schema": streamed(kind)}
    return made


def events(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _REQUEST_ID,
        "content": {"text/event-stream": {"schema": JOB_EVENT}},
    }


def file(description: str, *types: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": _REQUEST_ID,
        "content": {name: {"schema": {"type": "string", "format": "binary"}} for name in types},
    }


def of_job(job_id: str) -> dict[str, Any]:
    """Where one may go on with a job."""
    return {
        "job": link("getJob", job_id=job_id),
        "cancel": link("cancelJob", job_id=job_id),
        "events": link("watchJob", job_id=job_id),
        "picture": link("getPicture", job_id=job_id, index=0),
    }


def of_image(image_id: str) -> dict[str, Any]:
    """Where one may go on with a picture."""
    named = {"prompt": "a red fox in the snow", "images": [{"file_id": image_id}]}
    return {
        "image": link("getImage", image_id=image_id),
        "lineage": link("getLineage", image_id=image_id),
        "tweak": link("tweakImage", image_id=image_id),
        "edit": {"operationId": "createEdits", "requestBody": named},
    }


def link(operation: str, **parameters: object) -> dict[str, Any]:
    return {"operationId": operation, "parameters": parameters}


def path(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def query(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def header(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": schema}


def form(model: type[BaseModel], narrowed: Mapping[str, Schema], files: Schema) -> Schema:
    """A multipart form with the fields of `model`, which cannot be null there, and these files."""
    schema = parsed_as(model, narrowed)
    fields = {name: field.get("anyOf", [field])[0] for name, field in schema["properties"].items()}
    required = [*schema["required"], "image"]
    return {**schema, "properties": {**fields, **files}, "required": required}


def body(content: Mapping[str, Schema], *, required: bool = True) -> dict[str, Any]:
    """By content type."""
    return {"required": required, "content": {kind: {"schema": content[kind]} for kind in content}}


def parsed_as(model: type[BaseModel], narrowed: Mapping[str, Schema]) -> Schema:
    """The schema that `model` parses; where there is a default, null means it."""
    schema = _parsed_by(model)
    fields = {
        name: _field(field, narrowed.get(name, {}), optional=name not in schema.get("required", ()))
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": fields}


@cache
def _parsed_by(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    unsaid = ("title", "description", "$defs")
    return {name: schema[name] for name in schema if name not in unsaid}


def _field(parsed: Mapping[str, Any], narrowed: Schema, *, optional: bool) -> Schema:
    variants = parsed.get("anyOf", [parsed])
    variant = next(variant for variant in variants if variant.get("type") != "null")
    said = {name: variant[name] for name in variant if name not in ("title", "default")}
    field = narrowed if "anyOf" in narrowed else {**said, **narrowed}
    if not optional:
        return field
    default = {} if parsed.get("default") is None else {"default": parsed["default"]}
    return {"anyOf": [field, {"type": "null"}], **default}
