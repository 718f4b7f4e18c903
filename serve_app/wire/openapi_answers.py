"""Shapes of answers as JSON Schema: what /openapi.json promises of the plain dicts that we answer
with. Closed, so that a field that is not written down is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.job import JobState, RenderState

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "integer", "description": "Seconds since the epoch"}
URL: Schema = {"type": "string", "format": "uri"}


def named(name: str) -> Schema:
    """A schema of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def one_of(*values: str) -> Schema:
    """A string that is one of these."""
    return {"type": "string", "enum": list(values)}


def or_null(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": schema}


def closed(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def listed(schema: Schema) -> Schema:
    """OpenAI's list."""
    return closed({"object": one_of("list"), "data": many(schema)})


def event(name: str, data: Schema) -> Schema:
    """A server-sent event of that name whose data is JSON."""
    inside = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    return closed({"event": {"const": name}, "data": inside}, {"id": TEXT})


def any_of(schemas: list[Schema]) -> Schema:
    """Whatever one of these is."""
    return {"anyOf": schemas}


_LOOKS = {
    "background": TEXT,
    "output_format": one_of("png", "webp", "jpeg"),
    "quality": TEXT,
    "size": {"type": "string", "pattern": "^[0-9]+x[0-9]+$"},
}
_PROBLEM: Schema = {
    "type": "object",
    "description": "Some errors say more: moderation_details, job_id, temporary.",
    "properties": {
        "message": {"type": "string", "minLength": 1},
        "type": TEXT,
        "param": or_null(TEXT),
        "code": or_null(TEXT),
    },
    "required": ["message", "type", "param", "code"],
}
_TOKENS = closed({"image_tokens": COUNT, "text_tokens": COUNT})
_LEFT = closed({"limit": or_null(COUNT), "used": COUNT, "remaining": or_null(COUNT)})
_TIER_LIMITS = ("images_per_day", "queued_jobs", "concurrent_renders")

_WHICH = {"id": TEXT, "image_index": COUNT, "seed": COUNT}
_LOST = {"image_index": COUNT, "image_error": named("Problem")}
_PICTURE = {
    "b64_json": TEXT,
    "created_at": SECONDS,
    **_LOOKS,
    **_WHICH,
}


def streamed(kind: str) -> Schema:
    """Any event of a stream of pictures. kind: `image_generation`, say."""
    partial, completed, failed = (
        f"{kind}.{name}" for name in ("partial_image", "completed", "failed")
    )
    return any_of(
        [
            event(
                partial,
                closed({"type": one_of(partial), **_PICTURE, "partial_image_index": COUNT}),
            ),
            event(
                completed,
                closed(
                    {
                        "type": one_of(completed),
                        **_PICTURE,
                        "usage": named("Usage"),
                    },
                    {"safety_identifier": TEXT, "revised_prompt": TEXT},
                ),
            ),
            event(failed, closed({"type": one_of(failed), **_LOST})),
            event("error", named("Error")),
        ]
    )


JOB_EVENT = any_of(
    [
        event("job", named("Job")),
        event(
            "preview",
            closed(
                {
                    "job_id": TEXT,
                    "index": COUNT,
                    "pass": COUNT,
                    "passes_total": COUNT,
                    "output_format": TEXT,
                    "b64_json": TEXT,
                }
            ),
        ),
    ]
)
_IMAGE_URL: Schema = {
    "type": "string",
    "format": "image-url",
    "pattern": "^(data:image/|https?://)",
}
_NONE: Schema = {"type": "null"}
SCHEMAS: Mapping[str, Schema] = {
    "ImageRef": any_of(
        [
            closed({"image_url": _IMAGE_URL}, {"file_id": _NONE}),
            closed({"file_id": TEXT}, {"image_url": _NONE}),
        ]
    ),
    "Image": closed(
        {
            "id": TEXT,
            "object": one_of("image"),
            "created_at": SECONDS,
            "job_id": TEXT,
            "image_index": COUNT,
            "model": TEXT,
            "prompt": TEXT,
            **_LOOKS,
            "seed": COUNT,
            "parent": or_null(TEXT),
            "url": or_null(URL),
        },
        {"redraw": {"type": "string", "pattern": "^[0-9a-f]+$"}, "cells_redrawn": COUNT},
    ),
    "Lineage": closed(
        {
            "object": one_of("lineage"),
            "id": TEXT,
            "ancestors": many(named("Image")),
            "image": named("Image"),
            "children": many(named("Image")),
        }
    ),
    "Problem": _PROBLEM,
    "Error": closed({"error": named("Problem")}),
    "Usage": closed(
        {
            "input_tokens": COUNT,
            "input_tokens_details": _TOKENS,
            "output_tokens": COUNT,
            "output_tokens_details": _TOKENS,
            "total_tokens": COUNT,
        }
    ),
    "Images": closed(
        {
            "created": SECONDS,
            **_LOOKS,
            "data": many(closed(_WHICH, {"b64_json": TEXT, "url": URL, "revised_prompt": TEXT})),
            "usage": named("Usage"),
        },
        {
            "safety_identifier": TEXT,
            "errors": many(closed(_LOST)),
        },
    ),
    "Job": closed(
        {
            "id": TEXT,
            "object": one_of("job"),
            "state": one_of(*JobState),
            "created_at": SECONDS,
            "started_at": or_null(SECONDS),
            "finished_at": or_null(SECONDS),
            "model": TEXT,
            "prompt": TEXT,
            "n": COUNT,
            **_LOOKS,
            "seed": COUNT,
            "queue_position": or_null(COUNT),
            "passes_done": COUNT,
            "passes_total": COUNT,
            "images": many(
                closed(
                    {
                        "id": TEXT,
                        "index": COUNT,
                        "state": one_of(*RenderState),
                        "seed": COUNT,
                        "passes_done": COUNT,
                        "passes_total": COUNT,
                        "previews": many(COUNT),
                        "url": or_null(URL),
                        "error": or_null(named("Problem")),
                    }
                )
            ),
        },
        {"eta_seconds": NUMBER},
    ),
    "Jobs": listed(named("Job")),
    "File": closed(
        {
            "id": TEXT,
            "object": one_of("file"),
            "bytes": COUNT,
            "created_at": SECONDS,
            "expires_at": SECONDS,
            "filename": TEXT,
            "purpose": TEXT,
            "status": TEXT,
            "size": _LOOKS["size"],
        }
    ),
    "Files": closed(
        {**listed(named("File"))["properties"], "has_more": BOOLEAN},
        {"first_id": TEXT, "last_id": TEXT},
    ),
    "Deleted": closed({"id": TEXT, "object": TEXT, "deleted": BOOLEAN}),
    "Model": closed(
        {
            "id": TEXT,
            "object": one_of("model"),
            "created": SECONDS,
            "owned_by": TEXT,
            "capabilities": {"type": "object"},
        }
    ),
    "Models": listed(named("Model")),
    "Limits": closed(
        {
            "object": one_of("limits"),
            "tenant": TEXT,
            "tier": TEXT,
            "open": BOOLEAN,
            "images_per_day": closed({**_LEFT["properties"], "resets_at": SECONDS}),
            "queued_jobs": _LEFT,
            "concurrent_renders": _LEFT,
            "temporary": BOOLEAN,
        },
        {
            "since": SECONDS,
            "reason": TEXT,
            "eases_in_seconds": COUNT,
            "usual": closed({name: or_null(COUNT) for name in _TIER_LIMITS}),
        },
    ),
    "Status": closed(
        {
            "object": one_of("status"),
            "lane": TEXT,
            "read_at": NUMBER,
            "drain_seconds": or_null(NUMBER),
            "trend": or_null(NUMBER),
            "render_rate": or_null(NUMBER),
            "arrival_rate": or_null(NUMBER),
            "running_gpu_seconds": NUMBER,
            "waiting": {
                "type": "object",
                "additionalProperties": closed(
                    {
                        "jobs": COUNT,
                        "gpu_seconds": NUMBER,
                        "oldest_seconds": NUMBER,
                        "parked_jobs": COUNT,
                    }
                ),
            },
        }
    ),
    "Document": {"type": "object"},
    "Health": closed({"status": TEXT}),
}
