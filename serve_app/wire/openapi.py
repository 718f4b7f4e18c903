"""GET /openapi.json: what this lane answers to, as an OpenAPI 3.1 document. Pure.

Bodies are the schemas of the models that parse them, with what a config file narrows; paths,
parameters and answers are one table. A test compares it with the routes that the gateway has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.capabilities import Capabilities
from serve_app.config.cluster import ClusterConfig
from serve_app.wire.edits import EditBody, JsonEditBody, TweakBody
from serve_app.wire.files import LEAST_SECONDS, MOST_LISTED
from serve_app.wire.openapi_answers import SCHEMAS, TEXT, Schema, named
from serve_app.wire.openapi_parts import (
    ASKING,
    JOB_ID,
    answer,
    body,
    events,
    file,
    form,
    header,
    link,
    of_image,
    of_job,
    operation,
    parsed_as,
    path,
    pictures,
    query,
)
from serve_app.wire.requests import GenerationBody

NO_NUL = "^[^\\u0000]*$"
SAID = "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"
SIZE = "^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"
KEY: list[Schema] = [{"bearer": []}]
KEY_OR_SIGNATURE: list[Schema] = [{"bearer": []}, {"signature": []}]
ORDERING = (*ASKING, 400, 403, 404, 408, 410, 413, 415, 422, 500)
"""And what a request for pictures may be told."""
FILE: Schema = {"type": "string", "format": "binary"}
IMAGE_ID = path("image_id", {"type": "string", "pattern": "^img_[^/]*$"})
SHORT_REF: Schema = {"anyOf": [named("ImageRef"), {"type": "string", "format": "image-url"}]}
NO_KEY: list[Schema] = []


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
    return {**_orders(config, can), **_jobs(), **_files(config), **_lane(config), **_health()}


def _orders(config: ClusterConfig, can: Capabilities) -> dict[str, Any]:
    narrowed = _narrowed(config, can)
    return {
        "/v1/images/generations": {
            "post": _order(
                "createImages",
                "Draw pictures: wait for them, stream them, or get a job",
                {"application/json": parsed_as(GenerationBody, narrowed)},
                "image_generation",
            )
        },
        "/v1/images/edits": {
            "post": _order(
                "createEdits",
                "Change pictures that come along, or that are named",
                {
                    "multipart/form-data": form(EditBody, narrowed, _pictures_of_a_form(can)),
                    "application/json": parsed_as(
                        JsonEditBody, {**narrowed, **_named_pictures(can)}
                    ),
                },
                "image_edit",
            )
        },
        "/v1/images/{image_id}/tweaks": {
            "post": _order(
                "tweakImage",
                "Go on from one of your pictures",
                {"application/json": parsed_as(TweakBody, {**narrowed, "mask": SHORT_REF})},
                "image_edit",
                IMAGE_ID,
            )
        },
        "/v1/images/{image_id}": {
            "get": operation(
                "getImage",
                "How one of your pictures came to be",
                {"200": answer("It", "Image", links=of_image("$response.body#/id"))},
                (*ASKING, 404),
                parameters=[IMAGE_ID],
            )
        },
        "/v1/images/{image_id}/lineage": {
            "get": operation(
                "getLineage",
                "What it goes back to, and what was made of it",
                {"200": answer("It", "Lineage")},
                (*ASKING, 404),
                parameters=[IMAGE_ID],
            )
        },
        "/v1/images/variations": {
            "post": operation(
                "createVariation", "OpenAI has retired it, too", {}, (410,), security=NO_KEY
            )
        },
    }


def _named_pictures(can: Capabilities) -> dict[str, Schema]:
    most = max(can.input_images, 1)
    images = {"type": "array", "items": SHORT_REF, "minItems": 1, "maxItems": most}
    one_or_more = {"anyOf": [images, *SHORT_REF["anyOf"]]}
    return {"images": one_or_more, "mask": SHORT_REF, "markup": SHORT_REF}


def _pictures_of_a_form(can: Capabilities) -> dict[str, Schema]:
    images = {"type": "array", "items": FILE, "minItems": 1, "maxItems": max(can.input_images, 1)}
    return {"image": images, "mask": FILE, "markup": FILE}


def _order(
    name: str, summary: str, content: Mapping[str, Schema], kind: str, *parameters: Schema
) -> dict[str, Any]:
    """An operation that draws. kind: how the names of its events begin."""
    job = answer(
        "The job, when `Prefer: respond-async` asks for one",
        "Job",
        {**JOB_ID, "location": {"required": True, "schema": TEXT}},
        of_job("$response.body#/id"),
    )
    return operation(
        name,
        summary,
        {"200": pictures("The pictures, or their events when `stream` is true", kind), "202": job},
        ORDERING,
        parameters=[*parameters, *_wishes()],
        requestBody=body(content, required=not parameters),
    )


def _jobs() -> dict[str, Any]:
    job_id = path("job_id", {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"})
    index = path("index", {"type": "integer", "minimum": 0, "maximum": 9})
    job = {"200": answer("The job", "Job", links=of_job("$response.body#/id"))}
    one = {"parameters": [job_id]}
    return {
        "/v1/jobs": {
            "get": operation(
                "listJobs",
                "Your newest jobs",
                {"200": answer("Them", "Jobs", links=of_job("$response.body#/data/0/id"))},
                (*ASKING, 400),
                parameters=[query("limit", {"type": "integer", "minimum": 1, "maximum": 100})],
            )
        },
        "/v1/jobs/{job_id}": {
            "get": operation("getJob", "One job", job, (*ASKING, 404), **one),
            "delete": operation(
                "cancelJob", "Cancel; again changes nothing", job, (*ASKING, 404), **one
            ),
        },
        "/v1/jobs/{job_id}/events": {
            "get": operation(
                "watchJob",
                "A job's states and previews as they come, until it has ended",
                {"200": events("`job` and `preview` events")},
                (*ASKING, 404),
                parameters=[job_id, header("Last-Event-ID", TEXT)],
            )
        },
        "/v1/jobs/{job_id}/images/{index}": {
            "get": operation(
                "getPicture",
                "A finished picture's bytes, with a key or a signed URL",
                {"200": file("The picture", "image/png", "image/webp", "image/jpeg")},
                (*ASKING, 403, 404, 410),
                parameters=[job_id, index, query("expires", TEXT)],
                security=KEY_OR_SIGNATURE,
            )
        },
    }


def _files(config: ClusterConfig) -> dict[str, Any]:
    file_id = path("file_id", {"type": "string"})
    page = [
        query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}),
        query("order", {"type": "string", "enum": ["desc"]}),
        query("purpose", TEXT),
        query("after", {"type": "string", "pattern": "^file-[0-9a-f]{32}$"}),
    ]
    links = {
        "file": link("getFile", file_id="$response.body#/id"),
        "content": link("getFileContent", file_id="$response.body#/id"),
        "delete": link("deleteFile", file_id="$response.body#/id"),
    }
    one = {"parameters": [file_id]}
    return {
        "/v1/files": {
            "post": operation(
                "createFile",
                "Keep a picture, to name it in edits",
                {"200": answer("It", "File", links=links)},
                (*ASKING, 400, 408, 413, 415),
                requestBody=body({"multipart/form-data": _upload(config)}),
            ),
            "get": operation(
                "listFiles",
                "Your files, newest first",
                {"200": answer("Them", "Files")},
                (*ASKING, 400),
                parameters=page,
            ),
        },
        "/v1/files/{file_id}": {
            "get": operation(
                "getFile", "One file", {"200": answer("It", "File")}, (*ASKING, 404), **one
            ),
            "delete": operation(
                "deleteFile", "Forget it", {"200": answer("It", "Deleted")}, (*ASKING, 404), **one
            ),
        },
        "/v1/files/{file_id}/content": {
            "get": operation(
                "getFileContent",
                "The picture as it is kept",
                {"200": file("It", "image/png", "image/jpeg", "image/webp")},
                (*ASKING, 404),
                **one,
            )
        },
    }


def _upload(config: ClusterConfig) -> Schema:
    most_seconds = max(LEAST_SECONDS, int(config.retention.files_seconds))
    anchor, seconds = "expires_after[anchor]", "expires_after[seconds]"
    return {
        "type": "object",
        "properties": {
            "file": FILE,
            "purpose": {"type": "string", "enum": ["vision"]},
            anchor: {"type": "string", "enum": ["created_at"]},
            seconds: {"type": "integer", "minimum": LEAST_SECONDS, "maximum": most_seconds},
        },
        "required": ["file", "purpose"],
        "dependentRequired": {anchor: [seconds], seconds: [anchor]},
        "additionalProperties": False,
    }


def _lane(config: ClusterConfig) -> dict[str, Any]:
    name = path("name", {"type": "string", "examples": [config.model.name]})
    return {
        "/v1/limits": {
            "get": operation(
                "getLimits", "Your tier and its limits", {"200": answer("Them", "Limits")}
            )
        },
        "/v1/status": {
            "get": operation(
                "getStatus", "How hot the lane is", {"200": answer("Its heat", "Status")}
            )
        },
        "/v1/models": {
            "get": operation(
                "listModels", "The one model of this lane", {"200": answer("It", "Models")}
            )
        },
        "/v1/models/{name}": {
            "get": operation(
                "getModel",
                "That model, if it is this lane's",
                {"200": answer("It", "Model")},
                (*ASKING, 404),
                parameters=[name],
            )
        },
    }


def _health() -> dict[str, Any]:
    """What needs no key."""
    healthy = {"200": answer("It does", "Health")}
    document = {"200": answer("It", "Document")}
    return {
        "/healthz": {
            "get": operation(
                "getHealth", "Whether the process answers", healthy, (), security=NO_KEY
            )
        },
        "/readyz": {
            "get": operation(
                "getReadiness", "Whether the ledger answers, too", healthy, (503,), security=NO_KEY
            )
        },
        "/openapi.json": {
            "get": operation("getDocument", "This document", document, (), security=NO_KEY)
        },
    }


def _wishes() -> list[dict[str, Any]]:
    return [
        header("Prefer", {"type": "string", "examples": ["respond-async"]}),
        header("Idempotency-Key", {"type": "string", "pattern": "^[!-~]{1,255}$"}),
        header("X-Stainless-Retry-Count", {"type": "string"}),
    ]


def _narrowed(config: ClusterConfig, can: Capabilities) -> dict[str, Schema]:
    """What fields of any order must be besides what their model says."""
    limits = config.limits
    text = {"pattern": NO_NUL}
    return {
        "prompt": {
            "pattern": SAID,
            "minLength": 1,
            "maxLength": limits.prompt_characters,
            "examples": ["a red fox in the snow"],
        },
        "model": {"enum": [config.model.name]},
        "n": {"maximum": limits.images},
        "delta": {"pattern": SAID},
        "size": {"pattern": SIZE, "format": "image-size", "examples": ["auto"]},
        **({} if can.transparent else {"background": {"enum": ["auto", "opaque"]}}),
        "user": text,
        "safety_identifier": text,
    }
