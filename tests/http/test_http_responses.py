"""POST /v1/responses over HTTP with the official SDK: conversations, edits, refusals."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai.types.responses import Response
from openai.types.responses.response_output_item import ImageGenerationCall
from PIL import Image

from engine.region import from_hex
from tests.stages.http_stage import Stage, config, newest, stage
from tests.stages.pictures import mask

CELLS = 64
TOOL: dict[str, Any] = {"type": "image_generation"}
OTHER = {"authorization": "Bearer sk-other"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("responses"), config()) as running:
        yield running


def drawn(
    client: openai.OpenAI, said: Any, tool: dict[str, Any] | None = None, **more: Any
) -> Response:
    tools: Any = [TOOL | (tool or {})]
    create: Any = client.responses.create
    made: Response = create(input=said, tools=tools, **more)
    return made


def call(response: Response) -> ImageGenerationCall:
    [item] = response.output
    assert isinstance(item, ImageGenerationCall)
    return item


def picture(response: Response) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(call(response).result or "")))


def refusal(http: httpx.Client, **body: Any) -> tuple[int, str | None, str | None, str]:
    said = {"input": "a fox", "tools": [TOOL], **body}
    answer = http.post("/v1/responses", json={k: v for k, v in said.items() if v != "left out"})
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"], error["message"]


def png(size: tuple[int, int] = (64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "green").save(out, "PNG")
    return out.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_a_picture_comes_as_a_call_of_the_tool(client: openai.OpenAI, shared: Stage) -> None:
    tool = {"size": "128x64", "quality": "high", "output_format": "webp", "seed": 7}
    response = drawn(client, "a fox", tool, model="test-model", metadata={"turn": "1"}, user="ada")
    assert (response.status, response.error, response.model) == ("completed", None, "test-model")
    assert (response.metadata, response.background, response.previous_response_id) == (
        {"turn": "1"}, False, None,
    )  # fmt: skip
    assert response.completed_at is not None
    item, job = call(response), newest(shared)
    assert (item.id, item.status, item.action) == (f"ig_{job.id}", "completed", "generate")
    assert (item.size, item.quality, item.output_format) == ("128x64", "high", "webp")
    assert item.revised_prompt == "a fox"
    assert picture(response).size == (128, 64)
    assert picture(response).format == "WEBP"
    assert response.id == f"resp_{job.id}"
    assert (job.request.seed, job.request.user, job.request.watched) == (7, "ada", True)
    assert response.tool_usage is not None
    used = response.tool_usage.image_gen
    assert (used.input_tokens, used.output_tokens, used.total_tokens) == (2, CELLS, CELLS + 2)
    assert response.usage is not None
    assert response.usage.total_tokens == 0, "no language model has read anything"


def test_it_can_be_asked_for_again_by_its_tenant_alone(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    response = drawn(client, "a fox", metadata={"a": "b"}, temperature=0.3)
    again = client.responses.retrieve(response.id)
    assert again == response
    for answer in (
        http.get(f"/v1/responses/{response.id}", headers=OTHER),
        http.get(f"/v1/responses/resp_{'0' * 32}"),
        http.get("/v1/responses/nonsense"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "response_not_found")


def test_a_job_that_came_otherwise_is_no_response(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    client.images.generate(prompt="a fox")
    assert http.get(f"/v1/responses/resp_{newest(shared).id}").status_code == 404


def test_three_turns_go_on_from_each_other(client: openai.OpenAI, shared: Stage) -> None:
    response, before = drawn(client, "a red apple", {"size": "128x64"}), ""
    for words in ("make the background blue", "add a leaf"):
        before = f"img_{newest(shared).id}_0"
        response = drawn(client, words, previous_response_id=response.id)
        assert picture(response).size == (128, 64)
    item, job = call(response), newest(shared)
    assert item.action == "edit"
    assert item.revised_prompt == "a red apple, make the background blue, add a leaf"
    source = job.request.source
    assert source is not None
    assert source.parent == before
    assert source.tokens is not None, "of a picture of one's own"
    assert from_hex(source.redraw, CELLS).sum() == 58, "most of it, so that a change is seen"
    first = shared.ledger.ancestors("local", job.id)[-1]
    assert first.request.prompt == "a red apple"


def test_a_conversation_may_be_sent_whole(client: openai.OpenAI, shared: Stage) -> None:
    first = drawn(client, "a red apple", store=False)
    history: list[Any] = [{"role": "user", "content": "a red apple"}]
    history += [item.to_dict() for item in first.output]
    history += [
        {"role": "assistant", "content": [{"type": "output_text", "text": "Here it is."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "make it blue"}]},
    ]
    second = drawn(client, history, store=False)
    assert call(second).revised_prompt == "a red apple, make it blue"
    source = newest(shared).request.source
    assert source is not None
    assert source.parent is None, "it was not stored: the picture came along"
    for stored in (first.id, second.id):
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(stored)
        with pytest.raises(openai.BadRequestError) as refused:
            drawn(client, "bluer", previous_response_id=stored)
        assert refused.value.code == "previous_response_not_found"


@pytest.mark.parametrize("form", ["call", "reference", "image id"])
def test_a_call_is_named_by_its_id(
    client: openai.OpenAI, shared: Stage, http: httpx.Client, form: str
) -> None:
    first = drawn(client, "a red apple")
    image = f"img_{newest(shared).id}_0"
    item = {
        "call": {"type": "image_generation_call", "id": call(first).id},
        "reference": {"type": "item_reference", "id": call(first).id},
        "image id": {"type": "image_generation_call", "id": image},
    }[form]
    second = drawn(client, [item, {"role": "user", "content": "make it blue"}])
    source = newest(shared).request.source
    assert source is not None
    assert source.parent == image
    assert call(second).revised_prompt == "a red apple, make it blue"
    answer = http.post(
        "/v1/responses",
        json={"input": [item, {"role": "user", "content": "x"}], "tools": [TOOL]},
        headers=OTHER,
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "input[0].id")


@pytest.mark.parametrize("form", ["data", "file"])
def test_an_upload_is_edited(client: openai.OpenAI, shared: Stage, form: str) -> None:
    if form == "file":
        file = client.files.create(file=("green.png", png((128, 64))), purpose="vision")
        named = {"file_id": file.id}
    else:
        named = {"image_url": data_url(png((128, 64)))}
    parts = [{"type": "input_text", "text": "make it red"}, {"type": "input_image", **named}]
    response = drawn(client, [{"role": "user", "content": parts}], {"input_fidelity": "high"})
    assert call(response).action == "edit"
    assert call(response).revised_prompt == "make it red"
    assert picture(response).size == (128, 64)
    source = newest(shared).request.source
    assert source is not None
    assert from_hex(source.redraw, CELLS).sum() == 32


def test_a_body_beyond_the_limit_may_have_pictures_in_it_alone(
    client: openai.OpenAI, shared: Stage
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    assert len(out.getvalue()) > shared.config.limits.body_bytes
    parts = [
        {"type": "input_text", "text": "calm it down"},
        {"type": "input_image", "image_url": data_url(out.getvalue())},
    ]
    first = drawn(client, [{"role": "user", "content": parts}])
    assert picture(first).size == (192, 192)
    sent_back = [*[item.to_dict() for item in first.output], {"role": "user", "content": "more"}]
    assert call(drawn(client, sent_back)).revised_prompt == "calm it down, more"
    with pytest.raises(openai.APIStatusError) as refused:
        drawn(client, [{"role": "user", "content": [parts[0]] * 2}], instructions="x " * 50_000)
    assert refused.value.status_code in (400, 413)


def test_a_new_upload_is_what_the_next_turn_is_about(client: openai.OpenAI, shared: Stage) -> None:
    first = drawn(client, "a red apple")
    parts: Any = [
        {"type": "input_text", "text": "a green pear"},
        {"type": "input_image", "image_url": data_url(png()), "detail": "auto"},
    ]
    second = drawn(client, [{"role": "user", "content": parts}], previous_response_id=first.id)
    assert call(second).revised_prompt == "a green pear"
    source = newest(shared).request.source
    assert source is not None
    assert source.parent is None


def test_a_mask_says_where(client: openai.OpenAI, shared: Stage) -> None:
    first = drawn(client, "a red apple", {"size": "64x64"})
    hole = {"image_url": data_url(mask((64, 64), (0, 0, 16, 64)))}
    second = drawn(client, "a leaf", {"input_image_mask": hole}, previous_response_id=first.id)
    source = newest(shared).request.source
    assert source is not None
    cells = from_hex(source.redraw, CELLS).reshape(8, 8)
    assert cells[:, :2].all()
    assert not cells[:, 2:].any()
    assert "input_image_mask" not in second.tools[0].to_dict(), "too long to be said again"


def test_what_is_drawn_anew_goes_on_from_the_words_alone(
    client: openai.OpenAI, shared: Stage
) -> None:
    first = drawn(client, "a red apple")
    second = drawn(client, "on a table", {"action": "generate"}, previous_response_id=first.id)
    assert call(second).action == "generate"
    assert call(second).revised_prompt == "a red apple, on a table"
    assert newest(shared).request.source is None


def test_how_it_was_drawn_stays_as_it_was(client: openai.OpenAI, shared: Stage) -> None:
    first = drawn(client, "a red apple", {"quality": "high", "strength": None})
    drawn(client, "bluer", {"strength": 0.25}, previous_response_id=first.id)
    request = newest(shared).request
    assert request.quality == "high"
    assert request.source is not None
    assert from_hex(request.source.redraw, CELLS).sum() == 16


def test_a_blocked_turn_fails_as_the_call_that_it_was(
    client: openai.OpenAI, http: httpx.Client
) -> None:
    first = drawn(client, "a red apple")
    blocked = drawn(client, "unsafe", {"size": "64x64"})
    assert blocked.status == "failed"
    assert blocked.error is not None
    assert blocked.error.code == "image_content_policy_violation"
    item = call(blocked)
    assert (item.status, item.result) == ("failed", None)
    assert item.error is not None
    assert (item.error.code, item.error.type) == (
        "moderation_blocked", "image_generation_user_error",
    )  # fmt: skip
    assert item.error.moderation_details is not None
    assert item.error.moderation_details.categories == ["sexual"]
    assert item.error.moderation_details.moderation_stage == "input"
    assert http.get(f"/v1/responses/{blocked.id}").json()["status"] == "failed"
    after = drawn(client, "second is unsafe", previous_response_id=first.id)
    assert after.status == "completed"


def test_a_conversation_goes_on_behind_a_turn_that_failed(
    client: openai.OpenAI, shared: Stage
) -> None:
    first = drawn(client, "a red apple")
    image = f"img_{newest(shared).id}_0"
    failed = drawn(client, "broken", previous_response_id=first.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "server_error"
    third = drawn(client, "make it blue", previous_response_id=failed.id)
    assert call(third).revised_prompt == "a red apple, make it blue"
    source = newest(shared).request.source
    assert source is not None
    assert source.parent == image


def test_a_picture_that_is_kept_no_longer_leaves_the_response(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    first = drawn(client, "a red apple")
    [render] = newest(shared).renders
    assert render.blob is not None
    shared.blobs.delete(render.blob)
    shown = http.get(f"/v1/responses/{first.id}").json()
    assert (shown["status"], shown["output"][0]["result"]) == ("completed", None)
    status, param, code, _ = refusal(http, previous_response_id=first.id)
    assert (status, param, code) == (410, "previous_response_id", "image_expired")


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"tools": "left out"}, "tools", "tools"),
        ({"tools": []}, "tools", "once"),
        ({"tools": [TOOL, TOOL]}, "tools", "once"),
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools[1].type", "web_search"),
        ({"tools": [{"type": "function", "name": "f"}]}, "tools[0].type", "function"),
        ({"tools": [TOOL | {"size": "7x7"}]}, "tools[0].size", "'tools[0].size'"),
        ({"tools": [TOOL | {"quality": "fine"}]}, "tools[0].quality", "tools[0].quality"),
        ({"tools": [TOOL | {"frame_count": 3}]}, "tools[0].frame_count", "still"),
        ({"tools": [TOOL | {"n": 2}]}, "tools[0].n", "one picture"),
        ({"tools": [TOOL | {"partial_images": 4}]}, "tools[0].partial_images", "3"),
        ({"tools": [TOOL | {"action": "edit"}]}, "tools[0].action", "no picture to edit"),
        ({"tools": [TOOL | {"action": "draw"}]}, "tools[0].action", "generate"),
        ({"tools": [TOOL | {"strength": 0.5}]}, "tools[0].strength", "no picture"),
        ({"tools": [TOOL | {"output_compression": 5}]}, "tools[0].output_compression", "png"),
        ({"tools": [TOOL | {"background": "transparent", "output_format": "jpeg"}]},
         "tools[0].background", "alpha"),
        ({"tools": [TOOL | {"input_image_mask": {"file_id": "file-0"}}]},
         "tools[0].input_image_mask", "no picture"),
        ({"tool_choice": "none"}, "tool_choice", "none"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "function"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}},
         "tool_choice", "allowed_tools"),
        ({"instructions": "Be brief."}, "instructions", "language model"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "input"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format", "pictures"),
        ({"temperature": 3}, "temperature", "2"),
        ({"colour": "red"}, "colour", "colour"),
        ({"input": "left out"}, "input", "input"),
        ({"input": " "}, "input", "text"),
        ({"input": []}, "input", "text"),
        ({"input": "x" * 40_000}, "input", "at most"),
        ({"input": [{"role": "system", "content": "x"}]}, "input[0].role", "language model"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].type", "function_call"),
        ({"input": [{"role": "user", "content": 3}]}, "input[0].content", "text"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "a"}]}]},
         "input[0].content[0].type", "input_file"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
         "input[0].content[0]", "image_url"),
        ({"input": [{"role": "user", "content": "a\0b"}]}, "input[0].content", "NUL"),
        ({"input": [{"type": "image_generation_call"}]}, "input[0].id", "id"),
        ({"input": [{"type": "image_generation_call", "id": "\0"}]}, "input[0].id", "NUL"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "not found"),
        ({"background": True, "store": False}, "store", "true"),
        ({"metadata": {"a" * 65: "b"}}, f"metadata.{'a' * 64}", "64"),
        ({"metadata": {"a": 1}}, "metadata.a", "metadata.a"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    http: httpx.Client, body: dict[str, Any], param: str, says: str
) -> None:
    status, named, code, message = refusal(http, **body)
    assert (status, named) == (400, param), message
    assert says in message
    assert code


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reasoning", '{"effort": "\\ud800"}'),
        ("tool_choice", '{"type": "image_generation", "x": "\\ud800"}'),
        ("previous_response_id", '"\\ud800"'),
        ("input", '[{"type": "image_generation_call", "id": "\\ud800"}]'),
        ("input", '[{"role": "user", "content": "\\ud800"}]'),
        ("input", '[{"type": "\\ud800"}]'),
        ("tools", '[{"type": "\\ud800"}]'),
    ],
)
def test_what_is_no_text_is_refused(http: httpx.Client, field: str, value: str) -> None:
    fields = {"input": '"a fox"', "tools": '[{"type": "image_generation"}]', field: value}
    body = ", ".join(f'"{name}": {said}' for name, said in fields.items())
    answer = http.post("/v1/responses", content=f"{{{body}}}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(field)


@pytest.mark.parametrize("name", ["model", "tool"])
def test_a_model_that_is_not_served_does_not_exist(http: httpx.Client, name: str) -> None:
    tool = {"tools": [TOOL | {"model": "gpt-image-9"}]}
    status, param, code, message = refusal(
        http, **(tool if name == "tool" else {"model": "gpt-image-9"})
    )
    assert (status, code) == (404, "model_not_found")
    assert param == ("tools[0].model" if name == "tool" else "model")
    assert "test-model" in message


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        "required",
        {"type": "image_generation"},
        {"type": "allowed_tools", "mode": "required", "tools": [TOOL]},
    ],
)
def test_the_tool_can_be_chosen_in_any_form(client: openai.OpenAI, choice: Any) -> None:
    response = drawn(client, "a fox", tool_choice=choice)
    assert response.status == "completed"
    said = response.tool_choice if isinstance(choice, str) else response.to_dict()["tool_choice"]
    assert said == choice


def test_what_steers_a_language_model_has_no_effect(client: openai.OpenAI) -> None:
    hints: dict[str, Any] = {
        "temperature": 0.2, "top_p": 0.5, "max_output_tokens": 100, "max_tool_calls": 1,
        "parallel_tool_calls": False, "reasoning": {"effort": "low"}, "truncation": "auto",
        "include": ["reasoning.encrypted_content"], "service_tier": "auto",
        "text": {"format": {"type": "text"}}, "prompt_cache_key": "k",
    }  # fmt: skip
    plain = drawn(client, "a fox", {"seed": 3})
    hinted = drawn(client, "a fox", {"seed": 3}, **hints)
    assert call(hinted).result == call(plain).result
    assert (hinted.temperature, hinted.top_p, hinted.parallel_tool_calls) == (0.2, 0.5, False)


def test_a_quota_refuses_as_it_does_elsewhere(shared: Stage) -> None:
    url = f"{shared.url}/v1"
    with openai.OpenAI(base_url=url, api_key="sk-poor", max_retries=0) as poor:
        for _ in range(2):
            drawn(poor, "a fox")
        with pytest.raises(openai.RateLimitError) as refused:
            drawn(poor, "a fox")
    assert refused.value.code == "insufficient_quota"


def test_a_retry_finds_its_response(http: httpx.Client) -> None:
    body = {"input": "a fox", "tools": [TOOL]}
    key = {"idempotency-key": "turn-1"}
    first, second = (http.post("/v1/responses", json=body, headers=key).json() for _ in range(2))
    assert first["id"] == second["id"]
