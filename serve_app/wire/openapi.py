"""GET /openapi.json: what this lane answers to, as an OpenAPI 3.1 document. Pure.

Answers are the schemas of the types that the routes send (operations.py says which), bodies those
of the models that parse them, with what a config file narrows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from serve_app.config.cluster import ClusterConfig
from serve_app.config.sections import LEAST_GUIDANCE, MOST_GUIDANCE
from serve_app.wire.batches import NewBatch, OutputExpiry
from serve_app.wire.edits import EditBody, JsonEditBody, TweakBody
from serve_app.wire.files import LEAST_SECONDS
from serve_app.wire.loras import MOST_LORAS, LoraBody
from serve_app.wire.models import Models
from serve_app.wire.operations import FILE, JSON, OPERATIONS, TEXT, Schema
from serve_app.wire.possible import Possible
from serve_app.wire.requests import GenerationBody
from serve_app.wire.response_document import NO_NUL, response_fields
from serve_app.wire.response_requests import ImageTool, TurnRequest
from serve_app.wire.webhook_endpoints import (
    ChangedEndpointBody,
    EndpointTestBody,
    NewEndpointBody,
    RedeliveryBody,
    RotationBody,
)

REF = "#/components/schemas/{model}"
FORM = "multipart/form-data"
SAID = "^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$"
SIZE = "^(auto|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"
PATH_PARAMETERS: Mapping[str, Schema] = {
    "job_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    "image_id": {"type": "string", "pattern": "^img_[^/]*$"},
    "index": {"type": "integer", "minimum": 0, "maximum": 9},
}
IMAGE_URL: Schema = {"type": "string", "format": "image-url"}
NAMED_BY = {"image_url": IMAGE_URL | {"pattern": "^(data:image/|https?://)"}, "file_id": TEXT}
IMAGE_REF: Schema = {
    "anyOf": [
        {
            "type": "object",
            "properties": {**{key: {"type": "null"} for key in NAMED_BY}, name: schema},
            "required": [name],
            "additionalProperties": False,
        }
        for name, schema in NAMED_BY.items()
    ]
}
SHORT_REF: Schema = {"anyOf": [{"$ref": REF.format(model="ImageRef")}, IMAGE_URL]}


class AnswerSchema(GenerateJsonSchema):
    """Closed, so that a field that is not written down is noticed. `JobBody` is called Job."""

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> Schema:
        """As pydantic does, closed and without a title."""
        made = super().typed_dict_schema(schema) | {"additionalProperties": False}
        return {name: made[name] for name in made if name != "title"}

    def field_title_should_be_set(self, schema: object) -> bool:
        """A field's name is title enough."""
        return False

    def normalize_name(self, name: str) -> str:
        """The component's name."""
        return super().normalize_name(name).removesuffix("Body")


def of_routes(
    routes: Iterable[tuple[str, frozenset[str], Callable[..., object]]],
) -> Schema:
    """What any lane's document says of these routes: path, methods, endpoint."""
    paths: dict[str, Schema] = {}
    for pattern, methods, endpoint in routes:
        if said := OPERATIONS.get(endpoint):
            path = re.sub(r":\w+", "", pattern)
            inside = [_in_path(name) for name in re.findall(r"{(\w+)}", path)]
            parameters = {"parameters": [*inside, *said["parameters"]]}
            for method in sorted(methods - {"HEAD"}):
                paths.setdefault(path, {})[method.lower()] = said | parameters
    refs, made = TypeAdapter.json_schemas(
        ((kind, "serialization", TypeAdapter[Any](kind)) for kind in {*_types(paths)}),
        ref_template=REF,
        schema_generator=AnswerSchema,
    )
    by_type = {kind: ref for (kind, _), ref in refs.items()}
    schemas = {**made["$defs"], "ImageRef": IMAGE_REF}
    return {"paths": _resolved(paths, by_type), "schemas": dict(sorted(schemas.items()))}


def _in_path(name: str) -> Schema:
    schema = PATH_PARAMETERS.get(name, TEXT)
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _types(part: object) -> Iterator[type]:
    if isinstance(part, type):
        yield part
    elif isinstance(part, dict | list):
        for one in part.values() if isinstance(part, dict) else part:
            yield from _types(one)


def _resolved(part: Any, refs: Mapping[type, Schema]) -> Any:
    if isinstance(part, type):
        return refs[part]
    if isinstance(part, dict):
        return {name: _resolved(one, refs) for name, one in part.items()}
    return [_resolved(one, refs) for one in part] if isinstance(part, list) else part


def document(said: Schema, config: ClusterConfig, models: Models, root: str) -> Schema:
    """The document of a lane. said: of its routes. models: that can be asked for now.
    root: path below which this lane stands, or nothing at a host's root."""
    model = {**_in_path("name"), "schema": {**TEXT, "examples": _names(models)[:1]}}
    more: dict[str, Schema] = {"getModel": {"parameters": [model]}}
    more |= {name: {"requestBody": body} for name, body in _bodies(config, models).items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Meltproof",
            "version": "0.1.0",
            "description": "The OpenAI Images API, and jobs that survive what they run on.",
        },
        "servers": [{"url": root or "/"}],
        "security": [{"bearer": []}],
        "paths": {
            path: {
                method: {**one, **more.get(one["operationId"], {})} for method, one in of.items()
            }
            for path, of in said["paths"].items()
        },
        "components": {
            "schemas": said["schemas"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "signature": {"type": "apiKey", "in": "query", "name": "signature"},
            },
        },
    }


def _bodies(config: ClusterConfig, models: Models) -> dict[str, Schema]:
    """Request bodies by operation."""
    narrowed = _narrowed(config, models)
    images = {"type": "array", "minItems": 1, "maxItems": max(models.input_images, 1)}
    named = {"anyOf": [{**images, "items": SHORT_REF}, *SHORT_REF["anyOf"]]}
    refs = {"images": named, "mask": SHORT_REF, "markup": SHORT_REF}
    files = {"image": {**images, "items": FILE}, "mask": FILE, "markup": FILE}
    edit = parsed_as(JsonEditBody, {**narrowed, **refs})
    tweak = parsed_as(TweakBody, {**narrowed, "mask": SHORT_REF})
    tool = parsed_as(ImageTool, {**narrowed, "input_image_mask": SHORT_REF})
    turn = {**narrowed, **response_fields(tool, TEXT | narrowed["prompt"], IMAGE_URL)}
    return {
        "createImages": _body({JSON: parsed_as(GenerationBody, narrowed)}),
        "createEdits": _body({FORM: _form(parsed_as(EditBody, narrowed), files), JSON: edit}),
        "tweakImage": _body({JSON: tweak}, required=False),
        "createResponse": _body({JSON: parsed_as(TurnRequest, turn)}),
        "createFile": _body({FORM: _upload(config)}),
        "createBatch": _body({JSON: parsed_as(NewBatch, {"output_expires_after": OUTPUT_EXPIRY})}),
        "checkProvenance": _body({FORM: ONE_FILE}),
        **_webhook_bodies(config),
    }


def _webhook_bodies(config: ClusterConfig) -> dict[str, Schema]:
    url = {"pattern": config.webhooks.url_pattern, "examples": ["https://example.com/webhooks"]}
    fields: dict[str, Schema] = {"name": {"pattern": NO_NUL}, "url": url}
    redeliver, rotate = parsed_as(RedeliveryBody, {}), parsed_as(RotationBody, {})
    return {
        "createWebhookEndpoint": _body({JSON: parsed_as(NewEndpointBody, fields)}),
        "changeWebhookEndpoint": _body(
            {JSON: parsed_as(ChangedEndpointBody, fields)}, required=False
        ),
        "rotateWebhookSecret": _body({JSON: rotate}, required=False),
        "testWebhookEndpoint": _body({JSON: parsed_as(EndpointTestBody, {})}),
        "redeliverWebhooks": _body({JSON: redeliver}, required=False),
    }


def _body(content: Mapping[str, Schema], *, required: bool = True) -> Schema:
    """By media type."""
    schemas = {name: {"schema": schema} for name, schema in content.items()}
    return {"required": required, "content": schemas}


def _form(schema: Schema, files: Schema) -> Schema:
    """Of these fields, which cannot be null there, and these files."""
    said = {name: field.get("anyOf", [field])[0] for name, field in schema["properties"].items()}
    required = [*schema["required"], "image"]
    fields = {name: field if name in required else _or_empty(field) for name, field in said.items()}
    return {**schema, "properties": {**fields, **files}, "required": required}


def _or_empty(field: Schema) -> Schema:
    """A field that is empty in a form says nothing. A list is JSON in a text there."""
    if field.get("type") == "array":
        most = {} if field["maxItems"] else {"maxLength": 0}
        return {**TEXT, **most, "contentMediaType": JSON, "contentSchema": field}
    free = field.get("type") == "string" and not {"enum", "format"} & field.keys()
    return field if free else {"anyOf": [field, {"type": "string", "maxLength": 0}]}


def _upload(config: ClusterConfig) -> Schema:
    most_seconds = max(LEAST_SECONDS, int(config.retention.files_seconds))
    anchor, seconds = "expires_after[anchor]", "expires_after[seconds]"
    return {
        "type": "object",
        "properties": {
            "file": FILE,
            "purpose": {"type": "string", "enum": ["vision", "batch"]},
            anchor: {"type": "string", "enum": ["created_at"]},
            seconds: {"type": "integer", "minimum": LEAST_SECONDS, "maximum": most_seconds},
        },
        "required": ["file", "purpose"],
        "dependentRequired": {anchor: [seconds], seconds: [anchor]},
        "additionalProperties": False,
    }


OUTPUT_EXPIRY: Schema = {"anyOf": [OutputExpiry.model_json_schema()]}
ONE_FILE: Schema = {
    "type": "object",
    "properties": {"file": FILE},
    "required": ["file"],
    "additionalProperties": False,
}


def parsed_as(model: type[BaseModel], narrowed: Mapping[str, Schema]) -> Schema:
    """The schema that `model` parses; where there is a default, null means it."""
    schema = _parsed_by(model)
    fields = {
        name: _field(field, narrowed.get(name, {}), optional=name not in schema.get("required", ()))
        for name, field in schema["properties"].items()
    }
    return {**schema, "properties": fields}


@cache
def _parsed_by(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema(ref_template=REF)
    unsaid = ("title", "description", "$defs")
    return {name: schema[name] for name in schema if name not in unsaid}


def _field(parsed: Schema, narrowed: Schema, *, optional: bool) -> Schema:
    variant = parsed.get("anyOf", [parsed])[0]  # the other one is null
    said = {name: variant[name] for name in variant if name not in ("title", "default")}
    field = narrowed if "anyOf" in narrowed else {**said, **narrowed}
    if not optional:
        return field
    default = {} if parsed.get("default") is None else {"default": parsed["default"]}
    return {"anyOf": [field, {"type": "null"}], **default}


def _names(models: Models) -> list[str]:
    return [model.name for model in models.all]


def _loras(models: Models) -> Schema:
    """By name where all tenants may use all of them: the document needs no key."""
    each, names = _parsed_by(LoraBody), sorted({n for one in models.all for n in one.can.loras})
    listed = names and not any(one.terms.lora_tenants for one in models.all)
    name = {**TEXT, "enum": names} if listed else TEXT
    most = max((model.can.loras_max for model in models.all), default=0)
    items = {**each, "properties": {**each["properties"], "name": name}}
    return {"items": items, "maxItems": min(most, MOST_LORAS)}


def _narrowed(config: ClusterConfig, models: Models) -> dict[str, Schema]:
    """What fields of any order must be besides what their model says."""
    limits = config.limits
    text = {"pattern": NO_NUL}
    possible = [Possible(model, limits) for model in models.all]
    told = any(model.can.negative_prompt for model in models.all)
    return {
        "prompt": {
            "pattern": SAID,
            "minLength": 1,
            "maxLength": limits.prompt_characters,
            "examples": ["a red fox in the snow"],
        },
        "negative_prompt": {
            **text,
            "maxLength": limits.prompt_characters if told else 0,
        },
        "loras": _loras(models),
        "model": {"enum": _names(models)} if models.all else {},
        "n": {"maximum": limits.images},
        "steps": {"maximum": max((one.most_steps for one in possible), default=1)},
        "guidance": {"minimum": LEAST_GUIDANCE, "maximum": MOST_GUIDANCE},
        "delta": {"pattern": SAID},
        "size": {"pattern": SIZE, "format": "image-size", "examples": ["auto"]},
        **(
            {}
            if any(model.can.transparent for model in models.all)
            else {"background": {"enum": ["auto", "opaque"]}}
        ),
        "user": text,
        "safety_identifier": text,
        "prompt_cache_key": text,
        "service_tier": text,
    }
