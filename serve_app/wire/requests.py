"""OpenAI Images JSON to ImageRequest; for answers see answers.py. Pure: no clock, no storage,
no framework.

Fields that only hint at effort or taste (`style`, `complexity`) are accepted and have no effect;
fields that would change what comes back (`frame_count`, `svg`, transparency where the family has no
alpha) are refused by name. docs/openai-compatibility.md has every one of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.capabilities import Capabilities
from engine.prompt_encoder import PromptText
from jobs.request import ImageRequest, Tenant
from serve_app.config.cluster import ClusterConfig
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.json_body import read_json
from serve_app.wire.loras import LorasField, weighted
from serve_app.wire.models import Models
from serve_app.wire.possible import Possible

LARGEST_SEED = 2**63 - 1
MOST_PARTIAL_IMAGES = 3
LONG_CHARACTERS = 1000
"""Strings beyond this, as pictures are, enter a body's hash by their own digest, which blocks no
other thread."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"[^"]*"')
_CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "greater_than_equal": "integer_below_min_value",
    "less_than_equal": "integer_above_max_value",
}
_STILL = "pictures here are still and made of pixels: 'output_format' may be png, webp or jpeg"
_EDITS = "it belongs to POST /v1/images/edits"
MOVING = {"frame_count": _STILL, "frame_duration_ms": _STILL, "svg": _STILL}
UNSUPPORTED = {
    **MOVING,
    "image": _EDITS,
    "images": _EDITS,
    "mask": _EDITS,
    "markup": _EDITS,
    "input_fidelity": _EDITS,
}
"""Parameters that OpenAI's API knows, and why generations refuse them."""


class RequestBody(BaseModel):
    """What is sent as a JSON object; null means the default. unsupported: what it may not say, and
    why."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    unsupported: ClassVar[Mapping[str, str]] = {}


class LookBody(RequestBody):
    """What may be said of how a picture is drawn."""

    unsupported: ClassVar[Mapping[str, str]] = MOVING

    model: str | None = None
    negative_prompt: str | None = None
    loras: LorasField | None = None
    size: str = "auto"
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] = "auto"
    steps: Annotated[int, Field(ge=1)] | None = None
    guidance: Annotated[float, Field(allow_inf_nan=False)] | None = None
    background: Literal["auto", "opaque", "transparent"] = "auto"
    output_format: Literal["png", "webp", "jpeg"] = "png"
    output_compression: Annotated[int, Field(ge=0, le=100)] = 100
    moderation: Literal["auto", "low"] = "auto"
    partial_images: Annotated[int, Field(ge=0, le=MOST_PARTIAL_IMAGES)] = 0
    complexity: Literal["low", "medium", "high"] | None = None
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] | None = None


class PictureBody(LookBody):
    """What every request for pictures may say."""

    n: Annotated[int, Field(ge=1)] = 1
    stream: bool = False
    response_format: Literal["b64_json", "url"] = "b64_json"
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None


class GenerationBody(PictureBody):
    """The JSON body of POST /v1/images/generations."""

    unsupported: ClassVar[Mapping[str, str]] = UNSUPPORTED

    prompt: str
    style: Literal["vivid", "natural"] | None = None


Body = TypeVar("Body", bound=RequestBody)


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What the headers ask for."""

    respond_async: bool = False
    idempotency_key: str | None = None
    retry_count: int = 0


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request but for its body."""

    options: RequestOptions
    tenant: Tenant
    config: ClusterConfig
    models: Models
    seed: int
    """Used when the client names none."""


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """One request, and the form of its answer."""

    request: ImageRequest
    stream: bool
    as_url: bool


def parse_options(headers: Mapping[str, str]) -> RequestOptions:
    """Read Prefer, Idempotency-Key and the SDK's retry counter. Raises InvalidRequest."""
    key = headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequest(
            "An Idempotency-Key is 1 to 255 printable ASCII characters without spaces.",
            param="Idempotency-Key",
        )
    prefer = {token.partition(";")[0].strip().lower() for token in _preferences(headers)}
    retries = headers.get("x-stainless-retry-count", "0")
    return RequestOptions(
        respond_async="respond-async" in prefer,
        idempotency_key=key,
        retry_count=int(retries) if re.fullmatch(r"[0-9]{1,4}", retries) else 0,
    )


def _preferences(headers: Mapping[str, str]) -> list[str]:
    """With their parameters, of all Prefer lines (RFC 7240 2); texts in quotes are taken out."""
    lines = (value for name, value in headers.items() if name.lower() == "prefer")
    return _QUOTED.sub("", ",".join(lines)).split(",")


def parse_generation(raw: bytes, context: RequestContext) -> ImageOrder:
    """Validate everything once. Raises InvalidRequest or NotFound (the model), naming the field."""
    return generation_order(read_json(raw, context.config.limits.body_bytes), context)


def generation_order(fields: Mapping[str, Any], context: RequestContext) -> ImageOrder:
    """The same of a body that was read. Raises as `parse_generation` does."""
    body = parse_body(GenerationBody, fields)
    words = words_of(body.prompt, body.negative_prompt)
    if not context.models.named(body.model).can.draws:
        message = "This model draws along a picture: send one to POST /v1/images/edits."
        raise InvalidRequest(message, param="model")
    return order_of(body, with_hash(picture_request(body, words, context), body))


def words_of(prompt: str, negative_prompt: str | None) -> PromptText:
    """An empty negative prompt is none."""
    return PromptText(prompt, negative_prompt or None)


def picture_request(body: PictureBody, words: PromptText, context: RequestContext) -> ImageRequest:
    """The request but for the hash of its body. Raises as `parse_generation` does."""
    options, tenant, config = context.options, context.tenant, context.config
    model = context.models.named(body.model)
    possible = Possible(model, config.limits)
    guidance = possible.guidance(body.guidance)
    possible.check_words(words, guidance)
    possible.check_images(body.n)
    _check_together(body, options)
    _check_background(body, model.can)
    width, height = possible.size(body.size)
    quality, passes = possible.effort(body.quality, body.steps)
    return ImageRequest(
        lane=model.queue,
        tenant=tenant.id,
        tier=tenant.tier,
        model=model.name,
        prompt=words.prompt,
        negative_prompt=words.negative,
        loras=weighted(body.loras or (), model.can),
        n=body.n,
        width=width,
        height=height,
        quality=quality,
        passes=passes,
        steps=body.steps,
        own_guidance=body.guidance,
        guidance=guidance,
        seed=context.seed if body.seed is None else body.seed,
        output_format=body.output_format,
        output_compression=body.output_compression,
        background="transparent" if body.background == "transparent" else "opaque",
        moderation=body.moderation,
        partial_images=body.partial_images,
        user=body.safety_identifier or body.user or None,
        cost_seconds=body.n * passes * model.terms.pass_seconds,
        watched=not options.respond_async,
        deadline_seconds=config.limits.deadline_seconds,
        idempotency_key=options.idempotency_key,
        retry_count=options.retry_count,
    )


def order_of(body: PictureBody, request: ImageRequest) -> ImageOrder:
    """The request, and the form of its answer."""
    return ImageOrder(request, stream=body.stream, as_url=body.response_format == "url")


def with_hash(request: ImageRequest, body: BaseModel, path: str = "") -> ImageRequest:
    """The request, known by its body; the same one elsewhere (`path`) is another request."""
    return replace(request, body_hash=body_hash(body, path))


def body_hash(body: BaseModel, path: str = "") -> str:
    """Hex digest of the fields that were sent."""
    said = _short(body.model_dump(exclude_unset=True))
    canonical = json.dumps([path, said], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONG_CHARACTERS:
        return {"sha256": hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()}
    if isinstance(value, dict):
        return {name: _short(one) for name, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, list | tuple) else value


def parse_body(shape: type[Body], fields: Mapping[str, Any]) -> Body:
    """The fields in that shape. Raises InvalidRequest, naming the field."""
    check_text(fields.items())
    try:
        return shape.model_validate(fields)
    except ValidationError as error:
        raise as_invalid(error, shape.unsupported) from None


def as_invalid(error: ValidationError, unsupported: Mapping[str, str]) -> InvalidRequest:
    """The first thing that is wrong, with its field. unsupported: fields that have no effect."""
    problem = error.errors(include_url=False, include_input=False)[0]
    first, *further = problem["loc"]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in further)
    param = f"{first}{''.join(steps)}"
    code = _CODES.get(problem["type"])
    name = str(first).partition("[")[0]  # forms spell the fields of an object svg[model]
    if code == "unknown_parameter" and name in unsupported:
        message = f"Unsupported parameter: '{name}': {unsupported[name]}."
        return InvalidRequest(message, param=name, code="unsupported_parameter")
    if code is None:
        code = "invalid_type" if problem["type"].endswith("_type") else "invalid_value"
    message = {
        "unknown_parameter": f"Unknown parameter: '{param}'.",
        "missing_required_parameter": f"Missing required parameter: '{param}'.",
    }.get(code, f"Invalid value for '{param}': {problem['msg'].lower()}.")
    return InvalidRequest(message, param=param, code=code)


def check_text(fields: Iterable[tuple[str, object]]) -> None:
    """NUL and lone surrogates are valid JSON, but no database and no UTF-8 can hold them."""
    for name, value in fields:
        if not _clean(name):
            raise InvalidRequest("A field's name is not valid text.", code="invalid_json")
        if isinstance(value, str):
            check_clean(name, value)


def check_clean(param: str, text: str) -> None:
    """Raises InvalidRequest for text that cannot be stored."""
    if not _clean(text):
        message = f"Invalid value for '{param}': not valid text (NUL or a lone surrogate)."
        raise InvalidRequest(message, param=param)


def _clean(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _check_together(body: PictureBody, options: RequestOptions) -> None:
    """Fields that are fine alone and wrong together."""
    if body.output_format == "png" and body.output_compression != 100:
        raise InvalidRequest(
            "Invalid value for 'output_compression': png has none, use webp or jpeg.",
            param="output_compression",
        )
    if body.stream and options.respond_async:
        raise InvalidRequest(
            "Choose one: 'stream', or the header Prefer: respond-async.", param="stream"
        )
    if body.stream and body.response_format == "url":
        raise InvalidRequest(
            "Invalid value for 'response_format': streamed images are always b64_json.",
            param="response_format",
        )
    if body.partial_images and not (body.stream or options.respond_async):
        raise InvalidRequest(
            "Invalid value for 'partial_images': needs 'stream', or Prefer: respond-async.",
            param="partial_images",
        )


def _check_background(body: PictureBody, can: Capabilities) -> None:
    if body.background != "transparent":
        return
    if not can.transparent:
        raise InvalidRequest(
            "Invalid value for 'background': this model draws no alpha, use opaque or auto.",
            param="background",
            code="unsupported_value",
        )
    if body.output_format == "jpeg":
        message = "Invalid value for 'background': jpeg has no alpha, use png or webp."
        raise InvalidRequest(message, param="background")
