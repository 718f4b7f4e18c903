"""What the OpenAPI document says of the body of POST /v1/responses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_app.wire.response_requests import METADATA_KEY, METADATA_PAIRS, METADATA_VALUE, TOOL

Schema = dict[str, Any]
NO_NUL = "^[^\\u0000]*$"
_CHOICES: Schema = {
    "anyOf": [
        {"type": "string", "enum": ["auto", "required"]},
        {
            "type": "object",
            "properties": {"type": {"const": TOOL}},
            "required": ["type"],
            "additionalProperties": False,
        },
    ]
}
_METADATA: Schema = {
    "type": "object",
    "maxProperties": METADATA_PAIRS,
    "propertyNames": {"maxLength": METADATA_KEY, "pattern": NO_NUL},
    "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE, "pattern": NO_NUL},
}
_PLAIN_TEXT: Schema = {
    "type": "object",
    "properties": {
        "format": {
            "type": "object",
            "properties": {"type": {"const": "text"}},
            "required": ["type"],
            "additionalProperties": False,
        }
    },
    "additionalProperties": False,
}


def response_fields(tool: Schema, prompt: Schema, image_url: Schema) -> Mapping[str, Schema]:
    """Fields that are said more closely than their types are. tool: of a call; prompt: of what a
    picture shows; image_url: of a picture that is named."""
    typed = {"type": {"const": "image_generation"}}
    called = {**tool, "properties": {**tool["properties"], **typed}}
    return {
        "input": {"anyOf": [prompt, {"type": "array", "items": _message(prompt, image_url),
                                     "minItems": 1, "maxItems": 4}]},
        "tools": {"type": "array", "items": called, "minItems": 1, "maxItems": 1},
        "tool_choice": _CHOICES,
        "metadata": _METADATA,
        "text": _PLAIN_TEXT,
    }  # fmt: skip


def _message(prompt: Schema, image_url: Schema) -> Schema:
    """An item of the input. Calls that are sent back are in docs/conversations.md."""
    text = _part("input_text", text=prompt)
    image = _part("input_image", image_url=image_url)
    parts = {
        "type": "array",
        "prefixItems": [text],
        "items": {"anyOf": [text, image]},
        "minItems": 1,
        "maxItems": 2,
    }
    return {
        "type": "object",
        "properties": {
            "type": {"const": "message"},
            "role": {"const": "user"},
            "content": {"anyOf": [prompt, parts]},
        },
        "required": ["role", "content"],
        "additionalProperties": False,
    }


def _part(kind: str, **said: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **said},
        "required": ["type", *said],
        "additionalProperties": False,
    }
