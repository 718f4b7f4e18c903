"""The gateway as a client sees it: the official openai client, unmodified, and plain HTTP."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from PIL import Image
from sqlalchemy import text

from jobs.blobs.store import preview_key
from jobs.db.database import open_database
from jobs.job import JobState, RenderState
from jobs.retention import Retention, Step
from serve_app.orders.streaming import Progress
from tests.stages.http_stage import Stage, config, drawn, left_alone, newest, stage
from tests.stages.ledger_kit import wait_until

SEED = 7


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("http"), config()) as running:
        yield running


def decoded(b64: str | None) -> Image.Image:
    assert b64 is not None
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def sse(text: str) -> list[dict[str, str]]:
    """Events as field dictionaries, comments left out."""
    blocks = [block.splitlines() for block in text.split("\n\n")]
    events = [dict(line.split(": ", 1) for line in b if not line.startswith(":")) for b in blocks]
    return [event for event in events if event]


# The official client


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_a_picture_comes_back_in_the_format_asked_for(
    shared: Stage, client: openai.OpenAI, output_format: Any
) -> None:
    answer = client.images.generate(
        prompt="a red fox",
        size="128x64",
        quality="low",
        output_format=output_format,
        user="u7",
        extra_body={"seed": SEED},
    )
    assert answer.data is not None
    assert answer.usage is not None
    picture = decoded(answer.data[0].b64_json)
    assert (picture.format or "").lower() == output_format
    assert picture.size == (128, 64)
    assert base64.b64decode(answer.data[0].b64_json or "") == drawn(newest(shared), 0)
    assert (answer.size, answer.quality, answer.output_format) == ("128x64", "low", output_format)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 64)
    assert answer.safety_identifier == "u7"


def test_n_pictures_have_their_own_seeds(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="foxes", n=3, extra_body={"seed": SEED})
    assert answer.data is not None
    pixels = [decoded(image.b64_json).getpixel((0, 0)) for image in answer.data]
    assert pixels == [(7, 0, 120), (8, 0, 120), (9, 0, 120)]
    assert [image.seed for image in answer.data] == [7, 8, 9]  # type: ignore[attr-defined]


def test_every_answer_has_a_request_id(client: openai.OpenAI) -> None:
    raw = client.images.with_raw_response.generate(prompt="a red fox")
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-content-type-options"] == "nosniff"
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="")
    assert (refused.value.request_id or "").startswith("req_")
    known = httpx.get(f"{client.base_url}nothing", headers={"x-request-id": "from-serve"})
    assert "x-request-id" not in known.headers, "Serve adds the one that it made"


async def test_the_async_client(shared: Stage) -> None:
    async with openai.AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="sk-local") as client:
        answer = await client.images.generate(prompt="a red fox")
        assert answer.data is not None
        assert decoded(answer.data[0].b64_json).size == (64, 64)
        stream = await client.images.generate(prompt="a red fox", stream=True, partial_images=1)
        kinds = [event.type async for event in stream]
        assert kinds == ["image_generation.partial_image", "image_generation.completed"]


@pytest.mark.parametrize("partial_images", [0, 1, 3])
def test_a_stream_goes_from_previews_to_the_picture(
    client: openai.OpenAI, partial_images: int
) -> None:
    events = list(
        client.images.generate(
            prompt="a red fox", stream=True, partial_images=partial_images, output_format="webp"
        )
    )
    *partials, completed = events
    assert [event.type for event in partials] == ["image_generation.partial_image"] * partial_images
    numbers = [event.partial_image_index for event in partials]  # type: ignore[union-attr]
    assert numbers == list(range(partial_images))
    assert completed.type == "image_generation.completed"
    for event in events:
        assert decoded(event.b64_json).format == "WEBP"
        assert (event.size, event.output_format, event.background) == ("64x64", "webp", "opaque")
    assert completed.usage.total_tokens == 3 + 64


async def test_a_preview_that_comes_late_changes_no_other_ones_number(shared: Stage) -> None:
    async with openai.AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="sk-local") as client:
        await client.images.generate(prompt="a red fox", quality="medium")
    job = newest(shared)
    job = replace(job, request=replace(job.request, partial_images=3))
    for pass_no in (2, 6, 10):
        shared.blobs.put(preview_key(job.id, 0, pass_no, "png"), b"x", durable=False)
    progress, numbers = Progress(shared.app.state.app_state), list[int]()
    for previews in ((6,), (2, 6), (2, 6, 10)):
        render = replace(job.renders[0], state=RenderState.RENDERING, previews=previews)
        news = progress.news(replace(job, renders=(render,)))
        numbers += [event["partial_image_index"] async for event, _ in news]
    assert numbers == [1, 2]


def test_a_stream_of_several_says_which_image_an_event_belongs_to(client: openai.OpenAI) -> None:
    events = list(client.images.generate(prompt="two foxes", n=2, stream=True, partial_images=1))
    seen = [(event.type.split(".")[1], event.image_index) for event in events]  # type: ignore[union-attr]
    assert sorted(seen) == [
        ("completed", 0),
        ("completed", 1),
        ("partial_image", 0),
        ("partial_image", 1),
    ]
    used = [event.usage for event in events if event.type == "image_generation.completed"]
    assert sorted(usage.input_tokens for usage in used) == [0, 2]


def test_url_answers_open_without_a_key(client: openai.OpenAI, shared: Stage) -> None:
    answer = client.images.generate(prompt="a red fox", response_format="url")
    assert answer.data is not None
    url = answer.data[0].url or ""
    got = httpx.get(url)
    assert (got.status_code, got.headers["content-type"]) == (200, "image/png")
    assert got.content == drawn(newest(shared), 0)
    forged = url.replace("/images/0?", "/images/1?")
    for wrong in (forged, url[:-1] + ("0" if url[-1] != "0" else "1"), url + "&expires=99"):
        assert httpx.get(wrong).status_code == 403
    assert httpx.get(url.split("?")[0]).status_code == 401


def test_the_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["test-model"]
    model = client.models.retrieve("test-model")
    assert model.owned_by == "meltproof"
    can = model.capabilities  # type: ignore[attr-defined]
    assert can["grid"] == {"columns": 8, "rows": 8}
    assert (can["edits"], can["input_images"], can["n"]) == (True, 1, 10)
    assert (can["generations"], can["mask"], can["strength"]) == (True, True, True)
    assert can["sizes"]["auto"] == "64x64"
    assert can["qualities"]["medium"] == 12
    assert can["negative_prompt"] is False
    assert (can["loras"], can["loras_max"]) == ([], 0)
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("dall-e-3")
    assert refused.value.code == "model_not_found"


# Safety and failure


def test_one_blocked_image_leaves_the_others(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="second is unsafe", n=3)
    assert answer.data is not None
    assert [image.image_index for image in answer.data] == [0, 2]  # type: ignore[attr-defined]
    (error,) = answer.errors  # type: ignore[attr-defined]
    assert (error["image_index"], error["image_error"]["code"]) == (1, "moderation_blocked")
    assert answer.usage is not None
    assert answer.usage.output_tokens == 128


def test_one_blocked_image_does_not_end_the_stream(client: openai.OpenAI) -> None:
    stream = client.images.generate(prompt="second is unsafe", n=2, stream=True)
    assert [event.type for event in stream] == [
        "image_generation.completed",
        "image_generation.failed",
    ]


def test_a_failed_render_is_not_retried(shared: Stage) -> None:
    before = len(shared.jobs())
    with (
        openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-local", max_retries=2) as client,
        pytest.raises(openai.InternalServerError) as refused,
    ):
        client.images.generate(prompt="a broken fox")
    assert refused.value.code == "render_failed"
    assert len(shared.jobs()) == before + 1


def test_quota_is_not_retried_and_an_over_quota_request_leaves_nothing(shared: Stage) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-poor", max_retries=2) as client:
        client.images.generate(prompt="a red fox", n=2)
        with pytest.raises(openai.RateLimitError) as refused:
            client.images.generate(prompt="another fox")
    assert refused.value.code == "insufficient_quota"
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(shared.jobs("poor")) == 1


# Bad input: the status, the field, and nothing written

BAD: list[tuple[dict[str, Any] | bytes, int, str | None]] = [
    ({}, 400, "prompt"),
    ({"prompt": "a\u0000b"}, 400, "prompt"),
    (b'{"prompt": "a\\ud800b"}', 400, "prompt"),
    ({"prompt": "a", "n": "two"}, 400, "n"),
    ({"prompt": "a", "size": "10x10"}, 400, "size"),
    ({"prompt": "a", "model": "dall-e-3"}, 404, "model"),
    ({"prompt": "a", "quality": "ultra"}, 400, "quality"),
    ({"prompt": "a", "seed": 2**63}, 400, "seed"),
    (b"{", 400, None),
    (b"", 400, None),
    (b"[1]", 400, None),
    (b"\xff\xfe", 400, None),
    (b'{"prompt": "' + b"x" * 60_000 + b'"}', 413, None),
]


@pytest.mark.parametrize(("body", "status", "param"), BAD, ids=[ascii(b)[:40] for b, _, _ in BAD])
def test_bad_input(
    shared: Stage, http: httpx.Client, body: dict[str, Any] | bytes, status: int, param: str | None
) -> None:
    before = shared.rows()
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    got = http.post("/v1/images/generations", content=raw)
    error = got.json()["error"]
    assert (got.status_code, error["param"]) == (status, param)
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    assert shared.rows() == before


def test_a_chunked_body_is_cut_off_at_the_limit(shared: Stage, http: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    before = shared.rows()
    got = http.post("/v1/images/generations", content=endless())
    assert (got.status_code, got.json()["error"]["code"]) == (413, "body_too_large")
    assert shared.rows() == before


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer sk-loca", "Basic sk-local", "sk-local"]
)
def test_a_wrong_key_gets_nowhere(shared: Stage, authorization: str | None) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    before = shared.rows()
    for method, path in [
        ("POST", "/v1/images/generations"),
        ("GET", "/v1/jobs"),
        ("GET", "/v1/jobs/x"),
        ("DELETE", "/v1/jobs/x"),
        ("GET", "/v1/jobs/x/events"),
        ("GET", "/v1/jobs/x/images/0"),
        ("GET", "/v1/models"),
    ]:
        got = httpx.request(method, shared.url + path, headers=headers)
        assert (got.status_code, got.json()["error"]["code"]) == (401, "invalid_api_key")
    assert shared.rows() == before


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("GET", "/v1/images/generations", 405, "method_not_allowed"),
        ("PUT", "/v1/jobs/x", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/unknown", 404, "job_not_found"),
        ("GET", "/v1/jobs/a%00b", 404, "job_not_found"),
        ("GET", "/v1/jobs/%F0%9F%A6%8A/events", 404, "job_not_found"),
        ("DELETE", "/v1/jobs/unknown", 404, "job_not_found"),
        ("GET", "/v1/jobs?limit=0", 400, "invalid_value"),
        ("GET", "/v1/jobs?limit=101", 400, "invalid_value"),
        ("GET", "/v1/jobs/unknown/images/0?signature=a&expires=1", 403, "invalid_signature"),
        ("GET", "/studio/../pyproject.toml", 404, "unknown_url"),
        ("GET", "/studio/%2e%2e/pyproject.toml", 404, "unknown_url"),
        ("GET", "/docs", 404, "unknown_url"),
    ],
)
def test_every_refusal_uses_the_envelope(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    got = http.request(method, path)
    assert (got.status_code, got.json()["error"]["code"]) == (status, code)
    assert got.headers["x-request-id"]


# Jobs


def submit(http: httpx.Client, prompt: str, **fields: Any) -> dict[str, Any]:
    got = http.post(
        "/v1/images/generations",
        json={"prompt": prompt, **fields},
        headers={"prefer": "respond-async"},
    )
    assert got.status_code == 202
    assert got.headers["location"] == f"/v1/jobs/{got.json()['id']}"
    assert got.headers["preference-applied"] == "respond-async"
    body: dict[str, Any] = got.json()
    return body


def test_an_async_job_from_the_queue_to_its_pictures(shared: Stage, http: httpx.Client) -> None:
    shared.worker.pause()
    first = submit(http, "a red fox", n=2, partial_images=1, seed=SEED)
    second = submit(http, "a blue fox")
    assert first["state"] == "queued"
    assert http.get(f"/v1/jobs/{second['id']}").json()["queue_position"] == 1
    assert [job["id"] for job in http.get("/v1/jobs?limit=2").json()["data"]] == [
        second["id"],
        first["id"],
    ]
    with http.stream("GET", f"/v1/jobs/{first['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        shared.worker.resume()
        events = sse("".join(stream.iter_text()))
    states = [json.loads(event["data"]) for event in events if event["event"] == "job"]
    previews = [json.loads(event["data"]) for event in events if event["event"] == "preview"]
    assert (states[0]["state"], states[-1]["state"]) == ("queued", "succeeded")
    assert states[-1]["passes_done"] == states[-1]["passes_total"] == 24
    assert [(preview["index"], preview["pass"]) for preview in previews] == [(0, 6), (1, 6)]
    assert events[-1]["event"] == "job"
    for image in states[-1]["images"]:
        path = f"/v1/jobs/{first['id']}/images/{image['index']}"
        assert http.get(path).content == httpx.get(image["url"]).content
    assert http.get(f"/v1/jobs/{first['id']}/images/2").status_code == 404


def test_events_go_on_after_the_last_one_seen(shared: Stage, http: httpx.Client) -> None:
    job = submit(http, "a stepwise fox", partial_images=3, n=1)
    path = f"/v1/jobs/{job['id']}/events"
    shared.worker.steps.release(2)
    seen: list[dict[str, str]] = []
    with http.stream("GET", path) as stream:
        text = ""
        for chunk in stream.iter_text():
            text += chunk
            seen = [e for e in sse(text[: text.rfind("\n\n") + 2]) if e["event"] == "preview"]
            if len(seen) == 2:
                break
    assert [event["id"] for event in seen] == ["0.2", "0.6"]
    shared.worker.steps.release(2)
    with http.stream("GET", path, headers={"last-event-id": seen[-1]["id"]}) as stream:
        events = sse("".join(stream.iter_text()))
    assert [event["id"] for event in events if event["event"] == "preview"] == ["0.10"]
    again = sse(http.get(path, headers={"last-event-id": "nonsense"}).text)
    assert [event["event"] for event in again] == ["preview"] * 3 + ["job"]


def test_cancelling_twice_is_as_good_as_once(shared: Stage, http: httpx.Client) -> None:
    shared.worker.pause()
    try:
        job = submit(http, "a red fox")
        for _ in range(2):
            got = http.delete(f"/v1/jobs/{job['id']}")
            assert (got.status_code, got.json()["state"]) == (200, "cancelled")
    finally:
        shared.worker.resume()
    assert http.get(f"/v1/jobs/{job['id']}").json()["images"][0]["error"]["code"] == "job_cancelled"


def test_another_tenants_job_does_not_exist(shared: Stage, http: httpx.Client) -> None:
    job = submit(http, "a red fox")
    other = {"authorization": "Bearer sk-other"}
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/images/0")]:
        got = http.request(method, f"/v1/jobs/{job['id']}{path}", headers=other)
        assert (got.status_code, got.json()["error"]["code"]) == (404, "job_not_found")
    assert job["id"] not in http.get("/v1/jobs", headers=other).text


# Who waits


def test_a_wait_that_ends_keeps_the_place_and_the_retry_goes_on(tmp_path: Any) -> None:
    impatient = config(gateway={"sync_wait_seconds": 0.2})
    with stage(tmp_path, impatient) as running:
        running.worker.pause()
        got = httpx.post(
            f"{running.url}/v1/images/generations", json={"prompt": "x"}, headers=running.headers
        )
        job = newest(running)
        assert (got.status_code, got.json()["error"]["code"]) == (429, "still_queued")
        assert got.json()["error"]["job_id"] == job.id
        assert got.headers["retry-after"] == "1"
        assert got.headers["x-should-retry"] == "true"
        assert job.state is JobState.QUEUED

        answers: list[Any] = []

        def noted(response: Any) -> None:
            answers.append(response)
            running.worker.resume()

        with (
            openai.DefaultHttpxClient(event_hooks={"response": [noted]}) as transport,
            openai.OpenAI(
                base_url=f"{running.url}/v1",
                api_key="sk-local",
                max_retries=20,
                http_client=transport,
            ) as client,
        ):
            answer = client.images.generate(prompt="a patient fox")
        assert answer.data is not None
        statuses = [response.status_code for response in answers]
        assert statuses == [429] * (len(statuses) - 1) + [200]
        assert len(statuses) > 1
        assert len({response.headers["x-job-id"] for response in answers}) == 1
        assert len(running.jobs()) == 2


def test_the_same_key_is_the_same_job(shared: Stage, http: httpx.Client) -> None:
    before = len(shared.jobs())
    headers = {"idempotency-key": "order-1"}
    body = {"prompt": "a red fox"}
    first = http.post("/v1/images/generations", json=body, headers=headers)
    again = http.post("/v1/images/generations", json=body, headers=headers)
    assert first.json()["data"] == again.json()["data"]
    assert len(shared.jobs()) == before + 1
    other = http.post("/v1/images/generations", json={"prompt": "a fox"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    shared.blobs.delete(newest(shared).renders[0].blob or "")
    lost = http.post("/v1/images/generations", json=body, headers=headers)
    assert (lost.status_code, lost.json()["error"]["code"]) == (410, "image_expired")


def test_a_client_that_leaves_does_not_take_its_job_along(shared: Stage) -> None:
    shared.worker.pause()
    before = len(shared.jobs())
    body, path = b'{"prompt": "a left fox"}', "/v1/images/generations"
    try:
        job = left_alone(shared, body, path, "application/json")
        assert job.state is JobState.QUEUED
        assert not job.cancel_requested
    finally:
        shared.worker.resume()
    retry = httpx.post(
        f"{shared.url}{path}",
        content=body,
        headers={
            **shared.headers,
            "content-type": "application/json",
            "x-stainless-retry-count": "1",
        },
    )
    assert retry.headers["x-job-id"] == job.id
    assert len(shared.jobs()) == before + 1


def marked_answered(running: Stage, job_id: str) -> bool:
    with closing(open_database(running.database)) as database, database.reader.begin() as reader:
        mark = "select answered_at from jobs where id = :id"
        return reader.execute(text(mark), {"id": job_id}).scalar_one() is not None


def test_a_retry_finds_the_job_whose_answer_went_into_a_dead_connection(shared: Stage) -> None:
    """No server can see that: its kernel has taken every byte."""
    before = {job.id for job in shared.jobs()}
    body = b'{"prompt": "a lost fox"}'
    where = urlsplit(shared.url)
    head = f"POST /v1/images/generations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    with socket.create_connection((where.hostname, where.port)) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        deaf.sendall(f"{head}authorization: Bearer sk-local\r\n\r\n".encode() + body)
        wait_until(lambda: newest(shared).id not in before, "it is accepted")
        wait_until(lambda: marked_answered(shared, newest(shared).id), "it is answered")
    (lost,) = {job.id for job in shared.jobs()} - before
    headers = {**shared.headers, "x-stainless-retry-count": "1", "content-type": "application/json"}
    url = f"{shared.url}/v1/images/generations"
    assert httpx.post(url, content=body, headers=headers).headers["x-job-id"] == lost


# Operations


def test_health_readiness_and_the_page(shared: Stage) -> None:
    assert httpx.get(f"{shared.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{shared.url}/readyz").json() == {"status": "ready"}
    for path in ("/healthz", "/readyz", "/"):  # as some load balancers ask
        head = httpx.head(shared.url + path)
        assert (head.status_code, head.content) == (200, b"")
    page = httpx.get(f"{shared.url}/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    script = httpx.get(f"{shared.url}/studio/studio.js")
    assert script.status_code == 200
    assert script.headers["content-security-policy"] == policy


def test_a_ledger_that_is_away_is_a_503_and_the_process_stays_healthy(tmp_path: Any) -> None:
    with stage(tmp_path, config()) as running:
        running.gateway_ledger.close()
        for method, path in [("POST", "/v1/images/generations"), ("GET", "/readyz")]:
            got = httpx.request(
                method, running.url + path, json={"prompt": "x"}, headers=running.headers
            )
            assert (got.status_code, got.json()["error"]["code"]) == (503, "ledger_unavailable")
            assert got.headers["retry-after"] == "8"
        assert httpx.get(f"{running.url}/healthz").status_code == 200
        assert running.jobs() == []


def test_an_image_that_is_kept_no_longer_is_gone(tmp_path: Path) -> None:
    body = {"prompt": "a red fox"}
    once = {"idempotency-key": "kept-no-longer"}
    with (
        stage(tmp_path, config()) as own,
        httpx.Client(base_url=own.url, headers=own.headers, timeout=60) as http,
    ):
        assert http.post("/v1/images/generations", json=body, headers=once).status_code == 200
        (job,) = own.jobs()
        batch = own.ledger.retire("default", Step.IMAGES, Retention(images_seconds=0.0))
        assert batch is not None
        assert list(batch.blobs) == [job.id]
        for answer in (
            http.get(f"/v1/jobs/{job.id}/images/0"),
            http.post("/v1/images/generations", json=body, headers=once),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "image_expired")
        shown = http.get(f"/v1/jobs/{job.id}").json()
        image = shown["images"][0]
        assert (shown["state"], image["state"], image["url"]) == ("succeeded", "succeeded", None)
        assert image["error"]["code"] == "image_expired"


@pytest.mark.parametrize("n", [1, 2])
def test_a_picture_that_is_not_in_the_store_is_gone_in_every_answer(tmp_path: Path, n: int) -> None:
    """Another node's directory, or forgotten and erased at this moment."""
    body = {"prompt": "a red fox", "n": n}
    with (
        stage(tmp_path, config()) as own,
        httpx.Client(base_url=own.url, headers=own.headers, timeout=60) as http,
    ):

        def ask(**more: Any) -> httpx.Response:
            once = {"idempotency-key": f"gone-{len(own.jobs())}"}
            assert http.post("/v1/images/generations", json=body | more, headers=once).is_success
            blobs = [render.blob for render in own.jobs()[0].renders]
            assert blobs[0] is not None
            own.blobs.delete(blobs[0])
            return http.post("/v1/images/generations", json=body | more, headers=once)

        answer, streamed, link = ask(), ask(stream=True), ask(response_format="url")
        events = [json.loads(event["data"]) for event in sse(streamed.text)]
        gone = http.get(link.json()["data"][0]["url"])
        assert (gone.status_code, gone.json()["error"]["code"]) == (410, "image_expired")
        if n == 1:
            assert (answer.status_code, answer.json()["error"]["code"]) == (410, "image_expired")
            assert [event["error"]["code"] for event in events] == ["image_expired"]
        else:
            assert [image["image_index"] for image in answer.json()["data"]] == [1]
            assert answer.json()["errors"][0]["image_error"]["code"] == "image_expired"
            assert {event["type"].rpartition(".")[2] for event in events} == {"failed", "completed"}
            failed = next(event for event in events if event["type"].endswith("failed"))
            assert (failed["image_index"], failed["image_error"]["code"]) == (0, "image_expired")
