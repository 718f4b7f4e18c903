"""Conversations: POST /v1/responses with its tool `image_generation`, its answers and events, and
what there is to do with a response."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from tests.conformance.clients import Answer, Client
from tests.conformance.edit_rows import hole
from tests.conformance.file_rows import flat
from tests.conformance.response_answer_rows import (
    RESPOND,
    RESPONSE_ANSWERS,
    RESPONSE_EVENTS,
    STREAMED,
    call_of,
    honours_response,
    result_of,
    tool,
)
from tests.conformance.row import Check, Does, Row, both, expect, fails, good, refuses

HTTP = ("http",)


PICTURE = f"data:image/png;base64,{base64.b64encode(flat().data).decode()}"
MASK = f"data:image/png;base64,{base64.b64encode(hole().data).decode()}"


def _said_again(name: str, value: Any) -> Check:
    return honours_response(lambda a: a.body[name] == value, **{name: value})


def _changes_nothing(**fields: Any) -> Check:
    """With any of these the picture is what it is without."""

    def check(client: Client) -> None:
        plain = result_of(RESPOND(client))
        for name, value in fields.items():
            same = result_of(RESPOND(client, **{name: value})) == plain
            expect(same, True, f"{name} changes nothing")

    return check


def _goes_on(client: Client) -> None:
    first = good(RESPOND(client)).body["id"]
    second = RESPOND(client, input="at night", previous_response_id=first)
    expect(call_of(second)["action"], "edit", "action")
    expect(call_of(second)["revised_prompt"], "a red fox, at night", "the words of both")


def _goes_on_from_a_call(client: Client) -> None:
    call = call_of(RESPOND(client))
    said = [call, {"role": "user", "content": "at night"}]
    expect(call_of(RESPOND(client, input=said))["action"], "edit", "action")


def _edits(client: Client) -> None:
    parts = [
        {"type": "input_text", "text": "a red fox"},
        {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
    ]
    said = [{"type": "message", "role": "user", "content": parts}]
    expect(call_of(RESPOND(client, input=said))["action"], "edit", "action")
    masked = RESPOND(client, input=said, tools=[tool(input_image_mask={"image_url": MASK})])
    expect(call_of(masked)["status"], "completed", "with a mask")


def _stateless(client: Client) -> None:
    response = good(RESPOND(client, store=False)).body["id"]
    expect(client.call("responses.retrieve", response).status, 404, "what is not stored")


def _in_background(client: Client) -> None:
    body = good(RESPOND(client, background=True)).body
    expect(body["background"], True, "background")
    while body["status"] in ("queued", "in_progress"):
        body = good(client.call("responses.retrieve", body["id"])).body
    expect(body["status"], "completed", "its end")


def _parameter(name: str, does: Does, note: str, check: Check, values: tuple[str, ...] = ()) -> Row:
    return Row("responses", "parameter", name, values, does, note, check)


HINTS: dict[str, Any] = {
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 100,
    "max_tool_calls": 1,
    "parallel_tool_calls": False,
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "low"},
    "service_tier": "auto",
    "stream_options": {"include_obfuscation": False},
    "temperature": 0.2,
    "top_logprobs": 1,
    "top_p": 0.5,
    "truncation": "auto",
}
REFUSED: dict[str, Any] = {
    "access_programs": {"cyber": "standard"},
    "context_management": [{"type": "compaction"}],
    "conversation": "conv_1",
    "image": {"context_compression": "auto"},
    "instructions": "Be brief.",
    "moderation": {"model": "omni-moderation-latest"},
    "prompt": {"id": "pmpt_1"},
}
PARAMETERS = [
    _parameter(
        "input", Does.HONOURED, "the text is the prompt: there is no language model",
        honours_response(lambda a: call_of(a)["revised_prompt"] == "a red fox"), ("text",),
    ),
    _parameter(
        "input", Does.HONOURED, "input_text and input_image (data:, http(s) and file_id)", _edits,
        ("messages",),
    ),
    _parameter(
        "input", Does.HONOURED, "of the same account, by id; by its `result` where it was not "
        "stored", _goes_on_from_a_call, ("image_generation_call",),
    ),
    _parameter(
        "input", Does.REFUSED, "400: system and developer messages, files, other items; no text",
        both(
            refuses(RESPOND, "language model", {"input": [{"role": "system", "content": "x"}]},
                    param="input[0].role"),
            refuses(RESPOND, "text", {"input": []}),
        ), ("others",),
    ),
    _parameter(
        "tools", Does.HONOURED, "image_generation, once; a call draws one picture",
        honours_response(result_of), ("image_generation",),
    ),
    _parameter(
        "tools", Does.REFUSED, "400, named by its place",
        refuses(RESPOND, "web_search", {"tools": [{"type": "web_search"}]}, param="tools[0].type"),
        ("others",),
    ),
    _parameter(
        "tool_choice", Does.HONOURED, "auto, required, the tool, or `allowed_tools` with it",
        both(_said_again("tool_choice", "required"),
             _said_again("tool_choice", {"type": "image_generation"})),
    ),
    _parameter(
        "tool_choice", Does.REFUSED, "400: nothing else can be answered",
        refuses(RESPOND, "none", {"tool_choice": "none"}), ("none",),
    ),
    _parameter(
        "model", Does.HONOURED, "one that is served, or an alias; the tool's own comes first",
        _said_again("model", "gpt-image-2"),
    ),
    _parameter(
        "model", Does.REFUSED, "404 `model_not_found`; operators may name a model so (`aliases`)",
        fails(RESPOND, 404, "model_not_found", model="gpt-unknown"), ("another",),
    ),
    _parameter("previous_response_id", Does.HONOURED, "goes on from its picture", _goes_on),
    _parameter(
        "previous_response_id", Does.REFUSED, "400 `previous_response_not_found`",
        fails(RESPOND, 400, "previous_response_not_found", previous_response_id="resp_1"),
        ("unknown",),
    ),
    _parameter("stream", Does.HONOURED, "see the events",
               lambda client: expect(RESPOND(client, **STREAMED).error, None, "error")),
    _parameter("background", Does.HONOURED, "asked for until it is over", _in_background),
    _parameter("store", Does.HONOURED, "`false`: it cannot be asked for, nor gone on from by id",
               _stateless),
    _parameter("metadata", Does.HONOURED, "said again", _said_again("metadata", {"a": "b"})),
    _parameter("safety_identifier", Does.HONOURED, "said again",
               _said_again("safety_identifier", "u1")),
    _parameter("user", Does.HONOURED, "as `safety_identifier`",
               honours_response(lambda a: a.body["safety_identifier"] == "u1", user="u1")),
    _parameter("text", Does.HONOURED, "`format` is text, if anything", honours_response(
        result_of, text={"format": {"type": "text"}})),
    _parameter("text", Does.REFUSED, "400: no text is written",
               refuses(RESPOND, "pictures", {"text": {"format": {"type": "json_object"}}},
                       param="text.format"), ("other formats",)),
    _parameter(", ".join(HINTS), Does.NO_EFFECT, "they steer a language model",
               _changes_nothing(**HINTS)),
    _parameter(", ".join(REFUSED), Does.REFUSED, "400: nothing here could honour them",
               refuses(RESPOND, "Unsupported", *({one: REFUSED[one]} for one in REFUSED))),
]  # fmt: skip


def _called(name: str, note: str, test: Callable[[Answer], object], *values: Any) -> Row:
    """A field of the tool with these values."""

    def check(client: Client) -> None:
        for value in values:
            answer = good(RESPOND(client, tools=[tool(**{name: value})]))
            expect(test(answer) is not False, True, f"the answer to {name}={value}")

    listed = tuple(value for value in values if isinstance(value, str) and name != "model")
    return Row("responses tool", "parameter", name, listed, Does.HONOURED, note, check)


def _uncalled(name: str, note: str, says: str, *values: Any) -> Row:
    variants = [{"tools": [tool(**{name: value})]} for value in values]
    check = refuses(RESPOND, says, *variants, param=f"tools[0].{name}")
    listed = tuple(value for value in values if isinstance(value, str))
    return Row("responses tool", "parameter", name, listed, Does.REFUSED, note, check)


def _fidelity(client: Client) -> None:
    first = good(RESPOND(client)).body["id"]
    spent = [
        good(RESPOND(client, previous_response_id=first, tools=[tool(input_fidelity=one)]))
        .body["tool_usage"]["image_gen"]["output_tokens"]
        for one in ("low", "high")
    ]  # fmt: skip
    expect(spent[1] < spent[0], True, f"high draws less again than low: {spent}")


def _partials(client: Client) -> None:
    events = good(RESPOND(client, stream=True, tools=[tool(partial_images=3)])).events
    seen = [one["partial_image_index"] for one in events if "partial_image_index" in one]
    expect(seen, sorted(set(seen)), "previews in order")
    expect(bool(seen), True, "previews")


def _looks(name: str) -> Callable[[Answer], object]:
    return lambda answer: call_of(answer)[name]


TOOL = [
    _called("type", "", result_of, "image_generation"),
    _called("action", "auto edits where there is a picture to go on from", result_of,
            "auto", "generate"),
    Row("responses tool", "parameter", "action", ("edit",), Does.HONOURED,
        "400 where there is no picture to edit", refuses(
            RESPOND, "no picture to edit", {"tools": [tool(action="edit")]},
            param="tools[0].action")),
    _called("background", "auto is opaque", _looks("background"), "opaque", "auto"),
    _uncalled(
        "background",
        "400 from models that draw no alpha; the embedded model does, in png and webp",
        "alpha",
        "transparent",
    ),
    _called("complexity", "no effect: there is no planning", result_of, "low", "medium", "high"),
    _uncalled("frame_count", "400: no gif", "still", 3),
    _uncalled("frame_duration_ms", "400: no gif", "still", 200),
    _uncalled("svg", "400: no svg", "still", {"model": "x"}),
    Row("responses tool", "parameter", "input_fidelity", ("high", "low"), Does.HONOURED,
        "how much of a picture is drawn again", _fidelity),
    Row("responses tool", "parameter", "input_image_mask", (), Does.HONOURED,
        "as an edit's mask", _edits),
    _called("model", "as the response's", result_of, "gpt-image-2"),
    _called("moderation", "low looks less strictly", result_of, "auto", "low"),
    _called("output_compression", "webp and jpeg; 100 is let pass with png", result_of, 100),
    _called("output_format", "", _looks("output_format"), "png", "webp", "jpeg"),
    _uncalled("output_format", "400: still pictures of pixels only", "output_format",
              "gif", "svg"),
    Row("responses tool", "parameter", "partial_images", (), Does.HONOURED,
        "0 to 3, in a stream; no effect without one", _partials),
    _called("quality", "the number of passes", _looks("quality"),
            "low", "medium", "high", "xhigh", "max", "auto"),
    _called("size", "as of generations", lambda a: call_of(a)["size"] != "auto",
            "1024x1024", "1024x1536", "1536x1024", "auto"),
    _called("seed", "ours: the same seed is the same picture; `strength`, `negative_prompt`, "
            "`steps`, `guidance` and `loras`, too", result_of, 5),
]  # fmt: skip


def _retrieves(client: Client) -> None:
    body = good(RESPOND(client)).body
    again = good(client.call("responses.retrieve", body["id"])).body
    expect(again["output"], body["output"], "the picture, again")


def _cancels(client: Client) -> None:
    body = good(RESPOND(client, background=True)).body
    ended = good(client.call("responses.cancel", body["id"])).body["status"]
    expect(ended in ("cancelled", "completed"), True, f"{ended}: it may have been over")


def _deletes(client: Client) -> None:
    response = good(RESPOND(client)).body["id"]
    good(client.call("responses.delete", response))
    expect(client.call("responses.retrieve", response).status, 404, "what was deleted")


def _lists(client: Client) -> None:
    response = good(RESPOND(client)).body["id"]
    [item] = good(client.call("responses.input_items.list", response)).body["data"]
    expect(item["content"], [{"type": "input_text", "text": "a red fox"}], "what was said")


def _taken_up(client: Client) -> None:
    events = good(RESPOND(client, **STREAMED)).events
    response = events[0]["response"]["id"]
    again = client.call(f"GET /responses/{response}", stream="true", starting_after=2).events
    expect(again[0]["sequence_number"], 3, "the first event behind number 2")


def _endpoint(name: str, note: str, check: Check, **more: Any) -> Row:
    return Row("responses", "endpoint", name, (), Does.HONOURED, note, check, **more)


ENDPOINTS = [
    _endpoint("GET /v1/responses/{id}", "by its account, from any gateway",
              _retrieves),
    _endpoint("GET /v1/responses/{id}?stream=true&starting_after=", "from any number on",
              _taken_up, clients=HTTP),
    _endpoint("POST /v1/responses/{id}/cancel", "of background responses", _cancels),
    _endpoint("DELETE /v1/responses/{id}", "with its picture; one that is drawn is cancelled",
              _deletes),
    _endpoint("GET /v1/responses/{id}/input_items", "of this turn alone", _lists),
]  # fmt: skip

RESPONSES = [*PARAMETERS, *ENDPOINTS, *TOOL, *RESPONSE_ANSWERS, *RESPONSE_EVENTS]
