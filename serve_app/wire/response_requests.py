"""The body of POST /v1/responses: one picture in a conversation, ordered with the tool
`image_generation`. Pure.

No language model is here: the texts of the input are the prompt. What would only steer such a
model (`temperature`, `reasoning`) has no effect; what would change the picture or the answer, and
cannot be done, is refused by name. docs/conversations.md has every field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from jobs.request import ResponseOrder
from serve_app.wire.data_urls import is_data_url
from serve_app.wire.edits import ShortRef, Strength
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.json_body import read_json
from serve_app.wire.requests import (
    MOVING,
    LookBody,
    RequestBody,
    check_clean,
    parse_body,
)
from serve_app.wire.response_input import Conversed, read_input, shown

TOOL = "image_generation"
MOST_VALUES = 2_048
"""Fields and values of a body: a long conversation may be sent again with each turn."""
METADATA_PAIRS = 16
METADATA_KEY, METADATA_VALUE = 64, 512
_NO_LANGUAGE_MODEL = "no language model is here to read it; say it in 'input', which is the prompt"
UNSUPPORTED = {
    "access_programs": "there are none here",
    "conversation": "no conversations are kept here; go on with 'previous_response_id'",
    "context_management": "there is no context to manage; the text of 'input' is the prompt",
    "image": "pictures are parts of 'input', of the type input_image",
    "instructions": _NO_LANGUAGE_MODEL,
    "prompt": "no prompt templates are kept here; send 'input'",
    "moderation": "the tool has it: tools[0].moderation",
}


class ImageTool(LookBody):
    """The tool `image_generation`."""

    unsupported: ClassVar[Mapping[str, str]] = {
        **MOVING,
        "n": "a call of the tool draws one picture",
        "prompt": "the text of 'input' is the prompt",
    }

    type: Literal["image_generation"]
    action: Literal["auto", "generate", "edit"] = "auto"
    input_fidelity: Literal["low", "high"] | None = None
    input_image_mask: ShortRef | None = None
    strength: Strength | None = None


class TurnRequest(RequestBody):
    """The fields of the body. Those from `include` on have no effect."""

    unsupported: ClassVar[Mapping[str, str]] = UNSUPPORTED

    input: str | list[dict[str, Any]]
    tools: list[dict[str, Any]]
    model: str | None = None
    tool_choice: str | dict[str, Any] = "auto"
    previous_response_id: str | None = None
    stream: bool = False
    background: bool = False
    store: bool = True
    metadata: Annotated[dict[str, str], Field(max_length=METADATA_PAIRS)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    text: dict[str, Any] | None = None

    include: list[str] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    parallel_tool_calls: bool = True
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning: dict[str, Any] | None = None
    service_tier: str | None = None
    stream_options: dict[str, Any] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    truncation: Literal["auto", "disabled"] | None = None


REPEATED = ("model", "metadata", "tool_choice", "temperature", "top_p", "max_output_tokens",
            "max_tool_calls", "parallel_tool_calls", "reasoning", "text", "truncation",
            "top_logprobs", "prompt_cache_key")  # fmt: skip
"""Fields of a body that its answer says again."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A body, parsed."""

    body: TurnRequest
    tool: ImageTool
    conversed: Conversed
    order: ResponseOrder
    """What the job keeps of it."""

    @property
    def partial_images(self) -> int:
        """Those that can be seen: of a stream, or later of a background response."""
        return self.tool.partial_images if self.body.stream or self.body.background else 0


def parse_turn(raw: bytes, most_bytes: int) -> Turn:
    """most_bytes: beside its pictures. Raises InvalidRequest, naming the field as it was sent."""
    body = parse_body(TurnRequest, read_json(raw, most_bytes, MOST_VALUES))
    tool = _tool(body.tools)
    _check_choice(body.tool_choice)
    _check_metadata(body.metadata or {})
    _check_format(body.text or {})
    if body.background and not body.store:
        message = "A background response is asked for by its id: it needs 'store': true."
        raise InvalidRequest(message, param="store")
    conversed = read_input(body.input)
    return Turn(body, tool, conversed, _order(body, conversed))


def _order(body: TurnRequest, conversed: Conversed) -> ResponseOrder:
    """Raises InvalidRequest for what cannot be said again."""
    sent = body.model_fields_set
    said: dict[str, Any] = {name: getattr(body, name) for name in REPEATED if name in sent}
    said["tools"] = [_tool_said(body.tools[0])]
    for name, value in said.items():
        check_clean(name, json.dumps(value, ensure_ascii=False))
    said["input"] = conversed.items
    return ResponseOrder(
        background=body.background,
        stored=body.store,
        previous=body.previous_response_id,
        said=json.dumps(said, separators=(",", ":")),
    )


def _tool_said(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Without a mask that came whole."""
    said = dict(tool)
    mask = said.get("input_image_mask")
    url = mask.get("image_url") if isinstance(mask, Mapping) else mask
    if isinstance(url, str) and is_data_url(url):
        del said["input_image_mask"]
    return said


def tool_param(name: str) -> str:
    """How a field of the tool is named in errors."""
    return f"tools[0].{name}"


def _tool(tools: list[dict[str, Any]]) -> ImageTool:
    """The one tool. Raises InvalidRequest."""
    for number, tool in enumerate(tools):
        if (kind := tool.get("type")) != TOOL:
            message = (
                f"Unsupported tool: '{shown(kind)}'. This server has no language model, and the "
                f"one tool '{TOOL}'."
            )
            raise InvalidRequest(message, param=f"tools[{number}].type", code="unsupported_value")
    if len(tools) != 1:
        message = f"Invalid value for 'tools': give the tool '{TOOL}' once, and no other."
        raise InvalidRequest(message, param="tools")
    said = {name: value for name, value in tools[0].items() if value is not None}
    try:
        return parse_body(ImageTool, said)
    except InvalidRequest as problem:
        raise of_tool(problem) from None


def of_tool(problem: InvalidRequest) -> InvalidRequest:
    """The same, with the parameter as it is named in the body."""
    if problem.param is None:
        return problem
    param = tool_param(problem.param)
    message = problem.message.replace(f"'{problem.param}'", f"'{param}'")
    return InvalidRequest(message, param=param, code=problem.code)


def _check_choice(choice: str | dict[str, Any]) -> None:
    """All forms in which the tool can be chosen. Raises InvalidRequest."""
    if choice in ("auto", "required"):
        return
    if isinstance(choice, dict):
        if choice.get("type") == TOOL:
            return
        allowed = choice.get("tools")
        if choice.get("type") == "allowed_tools" and isinstance(allowed, list):
            kinds = [one.get("type") if isinstance(one, dict) else None for one in allowed]
            if kinds and all(kind == TOOL for kind in kinds):
                return
    kind = choice.get("type") if isinstance(choice, dict) else choice
    message = (
        f"Unsupported value for 'tool_choice': '{shown(kind)}'. There is no language model to "
        f"answer without a picture: leave it out, or choose '{TOOL}'."
    )
    raise InvalidRequest(message, param="tool_choice", code="unsupported_value")


def _check_metadata(metadata: Mapping[str, str]) -> None:
    for name, value in metadata.items():
        param = f"metadata.{name[:METADATA_KEY]}"
        check_clean("metadata", name)
        check_clean(param, value)
        if len(name) > METADATA_KEY or len(value) > METADATA_VALUE:
            message = (
                f"Invalid value for '{param}': keys have at most {METADATA_KEY} characters, values "
                f"at most {METADATA_VALUE}."
            )
            raise InvalidRequest(message, param=param, code="string_above_max_length")


def _check_format(text: Mapping[str, Any]) -> None:
    wanted = text.get("format") or {"type": "text"}
    if not isinstance(wanted, dict) or wanted.get("type") != "text":
        message = "Unsupported value for 'text.format': no text is written here, only pictures."
        raise InvalidRequest(message, param="text.format", code="unsupported_value")
