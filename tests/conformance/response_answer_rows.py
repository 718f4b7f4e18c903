"""What POST /v1/responses answers: the fields of a response and of its call, and the events of a
stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.conformance.clients import Answer, Client
from tests.conformance.row import Ask, Check, Does, Row, expect, good


def tool(**more: Any) -> dict[str, Any]:
    """The tool, drawing the same small picture each time."""
    return {"type": "image_generation", "size": "64x64", "quality": "low", "seed": 7, **more}


SAID = {"input": "a red fox", "tools": [tool()]}
RESPOND = Ask("responses.create", SAID)
STREAMED: dict[str, Any] = {"stream": True, "tools": [tool(partial_images=2)]}


def call_of(answer: Answer) -> dict[str, Any]:
    """The call of an answer that is no refusal."""
    [call] = good(answer).body["output"]
    return dict(call)


def result_of(answer: Answer) -> str:
    """The picture, in base64."""
    expect(good(answer).body["status"], "completed", "status")
    return str(call_of(answer)["result"])


def honours_response(test: Callable[[Answer], object], **fields: Any) -> Check:
    """The answer is good, and `test` does not raise or return False."""

    def check(client: Client) -> None:
        answer = good(RESPOND(client, **fields))
        expect(test(answer) is not False, True, f"the answer to {fields}")

    return check


NEVER = (
    "access_programs", "conversation", "image", "input_transformations", "moderation", "prompt",
    "prompt_cache_diagnostics", "prompt_cache_options", "prompt_cache_retention", "service_tier",
    "user",
)  # fmt: skip
ALWAYS = {
    "id": "the job's id behind `resp_`",
    "created_at": "when the job was accepted",
    "completed_at": "",
    "status": "queued (background), in_progress, completed, failed, cancelled",
    "error": "null, or `image_content_policy_violation`, `server_error`; the call says more",
    "incomplete_details": "null: a picture comes whole or not at all",
    "instructions": "null",
    "metadata": "",
    "model": "",
    "object": "",
    "output": "one call",
    "parallel_tool_calls": "as sent",
    "temperature": "as sent",
    "top_p": "as sent",
    "top_logprobs": "as sent",
    "tool_choice": "",
    "tools": "as sent, but for a mask that came whole",
    "background": "",
    "max_output_tokens": "as sent",
    "max_tool_calls": "as sent",
    "previous_response_id": "",
    "prompt_cache_key": "as sent",
    "reasoning": "as sent",
    "safety_identifier": "",
    "text": "",
    "tool_usage": "`image_gen` counts the picture, as `usage` of the Images API does",
    "truncation": "",
    "usage": "zeros: no language model has read or written anything",
    "store": "ours",
}
CALL = {
    "id": "the job's id behind `ig_`",
    "type": "",
    "status": "in_progress, generating, completed, failed",
    "result": "base64; null once the picture is kept no longer",
    "action": "generate or edit: what was done",
    "background": "opaque",
    "output_format": "",
    "quality": "never `auto`",
    "size": "never `auto`",
    "revised_prompt": "what was drawn, from models that say it, else all words of the conversation",
}


def _has(name: str) -> Check:
    return honours_response(lambda a: name in a.body)


def _has_in_call(name: str) -> Check:
    return honours_response(lambda a: name in call_of(a))


def _sends_none(client: Client) -> None:
    body = good(RESPOND(client)).body
    expect([one for one in NEVER if body.get(one)], [], "fields that are never sent")


def _blocked(client: Client) -> None:
    answer = good(RESPOND(client, input="gore after a bomb"))
    expect(answer.body["status"], "failed", "status")
    call = call_of(answer)
    expect((call["status"], call["error"]["code"]), ("failed", "moderation_blocked"), "the call")
    details = call["error"]["moderation_details"]
    expect(details["moderation_stage"], "input", "stage")
    expect(answer.body["error"]["code"], "image_content_policy_violation", "the response's error")


def _field(name: str, note: str, check: Check, does: Does = Does.HONOURED) -> Row:
    return Row("responses", "response", name, (), does, note, check)


RESPONSE_ANSWERS = [
    *(_field(name, note, _has(name)) for name, note in ALWAYS.items()),
    _field(", ".join(NEVER), "", _sends_none, Does.NEVER_SENT),
    *(Row("responses call", "response", name, (), Does.HONOURED, note,
          _has_in_call(name)) for name, note in CALL.items()),
    Row("responses call", "response", "error", (), Does.HONOURED,
        "`moderation_blocked` with its details, `render_failed`", _blocked),
    Row("responses call", "response", "svg_usage", (), Does.NEVER_SENT, "there is no svg",
        honours_response(lambda a: "svg_usage" not in call_of(a))),
]  # fmt: skip

_CALL = "response.image_generation_call"
_BEGINNING = ("response.created", "response.in_progress")
_MIDDLE = ("response.output_item.added", f"{_CALL}.in_progress", f"{_CALL}.generating")
_END = (f"{_CALL}.completed", "response.output_item.done", "response.completed")
_NUMBERED = ("sequence_number", "type")
_WHOLE = ("response", *_NUMBERED)
_ITEM = ("item", "output_index", *_NUMBERED)
_OF_CALL = ("item_id", "output_index", *_NUMBERED)
_PREVIEW = ("partial_image_b64", "partial_image_index", "background", "output_format", "quality",
            "size", *_OF_CALL)  # fmt: skip


def _streams(client: Client) -> None:
    events = good(RESPOND(client, **STREAMED)).events
    kinds = [one["type"] for one in events if not one["type"].endswith("partial_image")]
    expect(tuple(kinds), (*_BEGINNING, *_MIDDLE, *_END), "events")
    numbers = [one["sequence_number"] for one in events]
    expect(numbers, sorted(set(numbers)), "numbers grow")


def _in_event(kind: str, fields: tuple[str, ...], **more: Any) -> Check:
    def check(client: Client) -> None:
        _streams(client)
        events = good(RESPOND(client, **{**STREAMED, **more})).events
        [one, *_] = [event for event in events if event["type"] == kind]
        expect(set(fields) - one.keys(), set(), f"fields that {kind} lacks")

    return check


def _event(kind: str, fields: tuple[str, ...], note: str = "", **more: Any) -> Row:
    name = ", ".join(f"{kind}.{field}" for field in fields)
    check = _in_event(kind, fields, **more)
    return Row("responses", "event", name, (), Does.HONOURED, note, check)


RESPONSE_EVENTS = [
    _event("response.created", _WHOLE),
    _event("response.queued", _WHOLE, "of background responses", background=True),
    _event("response.in_progress", _WHOLE),
    _event("response.output_item.added", _ITEM),
    _event(f"{_CALL}.in_progress", _OF_CALL),
    _event(f"{_CALL}.generating", _OF_CALL),
    _event(f"{_CALL}.partial_image", _PREVIEW, "the number of one that came too late is left out"),
    _event(f"{_CALL}.completed", _OF_CALL),
    _event("response.output_item.done", _ITEM, "with the picture"),
    _event("response.completed", _WHOLE, "with the picture, again"),
    _event("response.failed", _WHOLE, "blocked, failed, expired or cancelled",
           input="gore after a bomb"),
]  # fmt: skip
