"""What a body means, what is refused and which field is named, and what comes back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse

from engine.capabilities import Capabilities
from jobs.job import Job, JobState, Render, RenderState
from jobs.request import SourceImage, Tenant, WeightedLora
from serve_app.config.cluster import parse_cluster_config
from serve_app.config.sizes import parse_size
from serve_app.wire import answers, requests
from serve_app.wire.edits import JsonEditBody
from serve_app.wire.errors import ApiError, InvalidRequest
from serve_app.wire.jobs import image_body, job_body, listed
from serve_app.wire.models import Models, ServedModel, announcement
from serve_app.wire.requests import (
    ImageOrder,
    RequestContext,
    RequestOptions,
    body_hash,
    parse_generation,
    parse_options,
)

CONFIG = parse_cluster_config({"limits": {"prompt_characters": 100}, "model": {"size": "256x256"}})
TENANT = Tenant("t1", "free")
STILL = Capabilities((64, 64), (8, 8), input_images=1)
SYNC = RequestOptions()
ASYNC = RequestOptions(respond_async=True)
MODELS = Models((ServedModel(announcement(CONFIG), STILL),))
CONTEXT = RequestContext(SYNC, TENANT, CONFIG, MODELS, seed=77)


def _order(options: RequestOptions = SYNC, **fields: Any) -> ImageOrder:
    body = json.dumps({"prompt": "a red fox", **fields}).encode()
    return parse_generation(body, replace(CONTEXT, options=options))


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"prompt": None}, 400, "prompt"),
    ({"prompt": ""}, 400, "prompt"),
    ({"prompt": " \n\t"}, 400, "prompt"),
    ({"prompt": "x" * 101}, 400, "prompt"),
    ({"prompt": "a\0b"}, 400, "prompt"),
    ({"prompt": "a\ud800b"}, 400, "prompt"),
    ({"prompt": ["a"]}, 400, "prompt"),
    ({"prompt": 5}, 400, "prompt"),
    ({"negative_prompt": "snow"}, 400, "negative_prompt"),
    ({"negative_prompt": " "}, 400, "negative_prompt"),
    ({"negative_prompt": "a\0b"}, 400, "negative_prompt"),
    ({"negative_prompt": ["a"]}, 400, "negative_prompt"),
    ({"loras": [{"name": "ink"}]}, 400, "loras"),
    ({"loras": "ink"}, 400, "loras"),
    ({"loras": ["ink"]}, 400, "loras[0]"),
    ({"loras": [{"weight": 1}]}, 400, "loras[0].name"),
    ({"loras": [{"name": "ink", "scale": 1}]}, 400, "loras[0].scale"),
    ({"loras": [{"name": "ink", "weight": 10.5}]}, 400, "loras[0].weight"),
    ({"loras": [{"name": "ink", "weight": -10.5}]}, 400, "loras[0].weight"),
    ({"loras": [{"name": "ink", "weight": float("nan")}]}, 400, "loras[0].weight"),
    ({"loras": [{"name": "ink", "weight": 10**400}]}, 400, "loras[0].weight"),
    ({"loras": [{"name": "ink", "weight": "1"}]}, 400, "loras[0].weight"),
    ({"loras": [{"name": "ink", "weight": True}]}, 400, "loras[0].weight"),
    ({"loras": [{"name": str(i)} for i in range(9)]}, 400, "loras"),
    ({"n": 0}, 400, "n"),
    ({"n": -1}, 400, "n"),
    ({"n": 11}, 400, "n"),
    ({"n": 10**30}, 400, "n"),
    ({"n": "1"}, 400, "n"),
    ({"n": 1.5}, 400, "n"),
    ({"n": True}, 400, "n"),
    ({"size": "big"}, 400, "size"),
    ({"size": "17x17"}, 400, "size"),
    ({"size": "0x0"}, 400, "size"),
    ({"size": "-256x-256"}, 400, "size"),
    ({"size": "1024x256"}, 400, "size"),
    ({"size": "8192x8192"}, 400, "size"),
    ({"size": "\uff1256x256"}, 400, "size"),
    ({"size": 256}, 400, "size"),
    ({"steps": 0}, 400, "steps"),
    ({"steps": 33}, 400, "steps"),
    ({"steps": 10**30}, 400, "steps"),
    ({"steps": 4.5}, 400, "steps"),
    ({"steps": "4"}, 400, "steps"),
    ({"steps": 4, "quality": "low"}, 400, "steps"),
    ({"guidance": 0.5}, 400, "guidance"),
    ({"guidance": 20.5}, 400, "guidance"),
    ({"guidance": -1}, 400, "guidance"),
    ({"guidance": float("inf")}, 400, "guidance"),
    ({"guidance": 10**400}, 400, "guidance"),
    ({"guidance": "4"}, 400, "guidance"),
    ({"guidance": True}, 400, "guidance"),
    ({"model": "gpt-image-2"}, 404, "model"),
    ({"model": ""}, 404, "model"),
    ({"model": 4}, 400, "model"),
    ({"model": "m\ud800"}, 400, "model"),
    ({"quality": "best"}, 400, "quality"),
    ({"output_format": "gif"}, 400, "output_format"),
    ({"output_format": "svg"}, 400, "output_format"),
    ({"output_compression": 50}, 400, "output_compression"),
    ({"output_compression": 101, "output_format": "webp"}, 400, "output_compression"),
    ({"background": "transparent"}, 400, "background"),
    ({"moderation": "off"}, 400, "moderation"),
    ({"stream": "yes"}, 400, "stream"),
    ({"stream": 1}, 400, "stream"),
    ({"partial_images": 4, "stream": True}, 400, "partial_images"),
    ({"partial_images": 2}, 400, "partial_images"),
    ({"response_format": "xml"}, 400, "response_format"),
    ({"response_format": "url", "stream": True}, 400, "response_format"),
    ({"style": "loud"}, 400, "style"),
    ({"user": 7}, 400, "user"),
    ({"user": "u" * 513}, 400, "user"),
    ({"seed": -1}, 400, "seed"),
    ({"seed": 2**63}, 400, "seed"),
    ({"seed": 0.5}, 400, "seed"),
    ({"frame_count": 3}, 400, "frame_count"),
    ({"svg": {}}, 400, "svg"),
    ({"promt": "x"}, 400, "promt"),
]


@pytest.mark.parametrize(
    ("fields", "status", "param"), REFUSED, ids=[ascii(fields)[:50] for fields, _, _ in REFUSED]
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], status: int, param: str) -> None:
    with pytest.raises(ApiError) as refused:
        _order(**fields)
    error = refused.value
    assert (error.status, error.param) == (status, param)
    assert error.code
    error.message.encode()  # whatever was sent, the answer can be written down


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b'{"n":' + b"9" * 5000,
        b'{"prompt": "a", "n": NaN}',
        b'{"\\ud800": 1, "prompt": "a"}',
    ],
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_generation(raw, CONTEXT)


@given(st.dictionaries(st.text(max_size=12), st.one_of(st.none(), st.text(), st.integers())))
def test_any_object_is_an_order_or_an_api_error(fields: dict[str, Any]) -> None:
    raw = json.dumps(fields).encode()
    try:
        order = parse_generation(raw, CONTEXT)
    except ApiError as error:
        json.dumps(error.envelope(), ensure_ascii=False).encode()
    else:
        assert order.request.prompt == fields["prompt"]


def test_the_defaults() -> None:
    order = _order()
    request = order.request
    assert (request.n, request.width, request.height) == (1, 256, 256)
    assert (request.quality, request.passes, request.seed) == ("medium", 12, 77)
    assert (request.output_format, request.background) == ("png", "opaque")
    assert request.watched
    assert not order.stream
    assert not order.as_url
    assert request.cost_seconds == pytest.approx(12 * CONFIG.model.pass_seconds)


def test_null_means_the_default_and_hints_have_no_effect() -> None:
    plain = _order().request
    hinted = _order(n=None, size=None, seed=None, style="vivid", complexity="low").request
    assert (hinted.n, hinted.width, hinted.passes, hinted.seed) == (1, plain.width, 12, 77)


@pytest.mark.parametrize(
    ("quality", "reported", "passes"),
    [
        ("low", "low", 8),
        ("auto", "medium", 12),
        ("standard", "medium", 12),
        ("high", "high", 16),
        ("hd", "high", 16),
        ("xhigh", "xhigh", 24),
        ("max", "max", 32),
    ],
)
def test_quality_is_a_number_of_passes(quality: str, reported: str, passes: int) -> None:
    request = _order(quality=quality).request
    assert (request.quality, request.passes) == (reported, passes)


@pytest.mark.parametrize(
    "size",
    ["256x256", "1024x1024", "1536x1024", "1792x1024", "1024x1792", "3840x2160", "48x16"],
)
def test_sizes(size: str) -> None:
    width, height = parse_size(size)
    assert f"{width}x{height}" == size


def test_async_jobs_are_not_watched_and_may_ask_for_previews() -> None:
    request = _order(ASYNC, partial_images=3).request
    assert not request.watched
    assert request.partial_images == 3
    with pytest.raises(InvalidRequest) as refused:
        _order(ASYNC, stream=True)
    assert refused.value.param == "stream"


def test_the_same_body_has_the_same_hash() -> None:
    assert _order().request.body_hash == _order().request.body_hash
    assert _order().request.body_hash != _order(n=2).request.body_hash


def _parsed(body: str, options: RequestOptions = SYNC) -> ImageOrder:
    return parse_generation(body.encode(), replace(CONTEXT, options=options))


@pytest.mark.parametrize(
    "body",
    [
        '{ "seed":1,"n":2,\n"prompt":"a red fox" }',
        '{"prompt": "a \\u0072ed fox", "n": 2.0, "seed": 1}',
        '{"prompt": "a red fox", "n": 2, "seed": 1, "user": null}',
    ],
)
def test_neither_the_order_of_fields_nor_spelling_makes_another_body(body: str) -> None:
    same = _parsed('{"prompt": "a red fox", "n": 2, "seed": 1}')
    assert _parsed(body).request.body_hash == same.request.body_hash
    other = _parsed(body.replace(" fox", " dog"))
    assert other.request.body_hash != same.request.body_hash


def test_a_long_text_tells_as_a_short_one() -> None:
    bodies = [
        JsonEditBody.model_validate({"prompt": text, "images": [{"file_id": "file-1"}]})
        for text in ("x" * 2000, "x" * 1999 + "y")
    ]
    assert len({body_hash(body) for body in bodies}) == 2
    assert len({body_hash(bodies[0], path) for path in ("edits", "tweaks 1")}) == 2


@pytest.mark.parametrize("field", sorted(requests.UNSUPPORTED))
def test_what_openai_has_and_we_do_not_is_refused_with_a_reason(field: str) -> None:
    with pytest.raises(InvalidRequest, match=requests.UNSUPPORTED[field]) as refused:
        _order(**{field: 2})
    assert (refused.value.param, refused.value.code) == (field, "unsupported_parameter")
    assert _order(**{field: None})


def test_transparency_is_a_matter_of_the_family() -> None:
    alpha = Models((ServedModel(announcement(CONFIG), replace(STILL, transparent=True)),))

    def order(output_format: str) -> ImageOrder:
        fields = {"prompt": "a", "background": "transparent", "output_format": output_format}
        return parse_generation(json.dumps(fields).encode(), replace(CONTEXT, models=alpha))

    assert order("webp").request.background == "transparent"
    with pytest.raises(InvalidRequest, match="jpeg has no alpha"):
        order("jpeg")
    with pytest.raises(InvalidRequest, match="use opaque or auto") as refused:
        _order(background="transparent")
    assert refused.value.code == "unsupported_value"


def test_a_negative_prompt_is_a_matter_of_the_family() -> None:
    told = ServedModel(announcement(CONFIG), replace(STILL, negative_prompt=True))

    def order(**fields: Any) -> ImageOrder:
        body = json.dumps({"prompt": "a red fox", **fields}).encode()
        return parse_generation(body, replace(CONTEXT, models=Models((told,))))

    request = order(negative_prompt="snow, ice").request
    assert (request.prompt, request.negative_prompt) == ("a red fox", "snow, ice")
    job = Job("j1", request, JobState.QUEUED, (Render(0, RenderState.WAITING),))
    assert answers.usage(job, (0,), 256)["input_tokens_details"]["text_tokens"] == 6
    assert len({order(**f).request.body_hash for f in ({}, {"negative_prompt": "snow"},
                {"negative_prompt": "rain"})}) == 3  # fmt: skip
    for none in (order(), order(negative_prompt=None), order(negative_prompt="")):
        assert none.request.negative_prompt is None
    assert _order(negative_prompt="").request.negative_prompt is None
    with pytest.raises(InvalidRequest, match="at most 100") as refused:
        order(negative_prompt="x" * 101)
    assert (refused.value.param, refused.value.code) == (
        "negative_prompt",
        "string_above_max_length",
    )
    with pytest.raises(InvalidRequest, match="cannot be told what not to draw") as refused:
        _order(negative_prompt="snow")
    assert refused.value.code == "unsupported_parameter"


LORAS = replace(STILL, loras=("ink", "oil", "wax"), loras_max=2)


def _order_with(*loras: dict[str, Any]) -> ImageOrder:
    models = Models((ServedModel(announcement(CONFIG), LORAS),))
    body = json.dumps({"prompt": "a red fox", "loras": loras}).encode()
    return parse_generation(body, replace(CONTEXT, models=models))


def test_loras_are_a_matter_of_the_model() -> None:
    orders = [
        _order_with(),
        _order_with({"name": "oil", "weight": -10}, {"name": "ink"}),
        _order_with({"name": "oil", "weight": 10.0}, {"name": "ink"}),
    ]
    assert [order.request.loras for order in orders] == [
        (),
        (WeightedLora("oil", -10.0), WeightedLora("ink", 1.0)),
        (WeightedLora("oil", 10.0), WeightedLora("ink", 1.0)),
    ]
    assert len({order.request.body_hash for order in orders}) == 3
    for none in (_order(), _order(loras=None), _order(loras=[])):
        assert none.request.loras == ()
    with pytest.raises(InvalidRequest, match="this model has no LoRAs") as refused:
        _order(loras=[{"name": "ink"}])
    assert refused.value.code == "unsupported_parameter"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["tar", "ink"], "there is no 'tar'; this model has 'ink', 'oil', 'wax'"),
        (["a\0b"], r"there is no 'a\\x00b'; this model has"),
        (["a\ud800b"], r"there is no 'a\\ud800b'; this model has"),
        (["ink", "ink"], "'ink' is named more than once"),
        (["ink", "oil", "wax"], "3 LoRAs, this model takes at most 2"),
    ],
)
def test_loras_that_cannot_be_drawn_with_are_refused(names: list[str], says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^Invalid value for 'loras': {says}") as refused:
        _order_with(*({"name": name} for name in names))
    assert (refused.value.param, refused.value.code) == ("loras", "invalid_value")


@pytest.mark.parametrize(
    ("fields", "effective"),
    [
        ({"user": "u"}, "u"),
        ({"user": "u", "safety_identifier": "s"}, "s"),
        ({"user": "u", "safety_identifier": ""}, "u"),
        ({"user": "u", "safety_identifier": None}, "u"),
        ({"user": ""}, None),
    ],
)
def test_who_an_order_is_for(fields: dict[str, Any], effective: str | None) -> None:
    assert _order(**fields).request.user == effective


def test_headers() -> None:
    options = parse_options(
        {"prefer": "wait=5, Respond-Async", "idempotency-key": "k1", "x-stainless-retry-count": "2"}
    )
    assert options == RequestOptions(True, "k1", 2)
    assert parse_options({"x-stainless-retry-count": "-1"}) == RequestOptions()
    for key in ("", "a b", "x" * 256, "é"):
        with pytest.raises(InvalidRequest) as refused:
            parse_options({"idempotency-key": key})
        assert refused.value.param == "Idempotency-Key"


def _job(**fields: Any) -> Job:
    renders = (
        Render(0, RenderState.SUCCEEDED, pass_no=8, blob="b", previews=(4, 2)),
        Render(1, RenderState.BLOCKED, categories=("weapons",), stage="output", pass_no=5),
    )
    request = _order(n=2, quality="low", user="u1", seed=2**63 - 1, **fields).request
    return Job("j1", request, JobState.SUCCEEDED, renders, created_at=1700000000.9)


SOURCE = SourceImage(canvas="c", small="s", redraw="000f000000000000", strength=0.1)


def test_the_answer_is_what_the_sdk_expects() -> None:
    body = answers.images_response(_job(), {0: {"b64_json": "eA=="}}, cells=256)
    parsed = ImagesResponse.model_validate(body, strict=True)
    assert parsed.data is not None
    assert [image.b64_json for image in parsed.data] == ["eA=="]
    assert parsed.created == 1700000000
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 3 + 256
    assert parsed.safety_identifier == "u1"
    assert body["errors"][0]["image_index"] == 1
    assert body["errors"][0]["image_error"]["code"] == "moderation_blocked"
    assert "revised_prompt" not in body["data"][0]


def test_what_was_drawn_is_said_of_each_picture() -> None:
    """In an answer, and so in a line of a batch, and in the last event of a stream."""
    job = _job()
    drawn = replace(job.renders[0], revised_prompt="a dog")
    job = replace(job, renders=(drawn, *job.renders[1:]))
    body = answers.images_response(job, {0: {"b64_json": "eA=="}}, cells=256)
    assert body["data"][0]["revised_prompt"] == "a dog"
    completed = answers.completed_event(job, 0, "eA==", answers.usage(job, (0,), 256))
    assert completed["revised_prompt"] == "a dog"


def test_what_was_drawn_anew_is_told_and_counted_of_each_picture() -> None:
    """Of one that its decoder says nothing of, what was asked for."""
    changed = replace(_job(), request=replace(_order(n=2).request, source=SOURCE))
    drawn = Render(0, RenderState.SUCCEEDED, blob="b", redrawn="ff" * 8)
    job = replace(changed, renders=(drawn, Render(1, RenderState.SUCCEEDED, blob="b")))
    told = [image_body(job, render, None) for render in job.renders]
    assert [(one["redraw"], one["cells_redrawn"]) for one in told] == [
        ("ff" * 8, 64),
        (SOURCE.redraw, 4),
    ]
    body = answers.images_response(job, {0: {"b64_json": "a"}, 1: {"b64_json": "b"}}, cells=64)
    assert body["usage"]["output_tokens"] == 68
    assert answers.usage(job, (1,), 64)["output_tokens_details"]["image_tokens"] == 4


def test_the_events_are_what_the_sdk_expects() -> None:
    job = _job()
    partial = answers.partial_event(job, 0, 1, "eA==")
    assert ImageGenPartialImageEvent.model_validate(partial, strict=True).partial_image_index == 1
    used = answers.usage(job, (0,), 256)
    completed = answers.completed_event(job, 0, "eA==", used)
    assert ImageGenCompletedEvent.model_validate(completed, strict=True).usage.total_tokens == 259
    assert answers.without_input(used)["total_tokens"] == 256
    assert "error" not in answers.failed_event(job, job.renders[1])


def test_a_job_as_json() -> None:
    body = job_body(_job(), None, {0: "http://x/0"})
    json.dumps(body)
    assert (body["state"], body["passes_done"], body["passes_total"]) == ("succeeded", 13, 16)
    first, second = body["images"]
    assert (first["url"], first["previews"], first["error"]) == ("http://x/0", [2, 4], None)
    assert first["seed"] == 2**63 - 1
    assert second["seed"] == 0
    assert second["error"]["code"] == "moderation_blocked"
    assert body.keys().isdisjoint({"negative_prompt", "loras"})


def test_a_job_shows_its_loras() -> None:
    job = _job()
    with_ink = replace(job, request=replace(job.request, loras=(WeightedLora("ink", 0.5),)))
    for body in (job_body(with_ink, None, {}), image_body(with_ink, job.renders[0], None)):
        assert body["loras"] == [{"name": "ink", "weight": 0.5}]


def test_long_prompts_are_cut_in_a_list() -> None:
    job = _job()
    words = {"prompt": "a" * 2000, "negative_prompt": "b" * 2000}
    body = listed(job_body(replace(job, request=replace(job.request, **words)), None, {}))
    assert (body["prompt"], body["negative_prompt"]) == ("a" * 1000, "b" * 1000)
