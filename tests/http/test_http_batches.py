"""Batches over HTTP: the official client sends a file of requests, and reads its results."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch
from PIL import Image

from jobs.files import PART_BYTES
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until
from tests.stages.metrics_kit import samples
from tests.stages.pictures import picture

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
ENDED = {"failed", "completed", "expired", "cancelled"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    tiers = {"free": {}, "poor": {"images_per_day": 2, "batch_images": 5}}
    limits = {
        "body_bytes": 20_000,
        "image_bytes": 100_000,
        "batch_bytes": 400_000,
        "batch_lines": 40,
    }
    settings = config(limits=limits, tiers=tiers, gateway={"public_url": "http://localhost/x"})
    with stage(tmp_path_factory.mktemp("batches"), settings) as running:
        yield running


def line(number: int, url: str = GENERATIONS, **body: Any) -> dict[str, Any]:
    said = {"prompt": f"fox {number}", "size": "64x64", "seed": number, **body}
    return {"custom_id": f"r{number}", "method": "POST", "url": url, "body": said}


def jsonl(*lines: dict[str, Any] | str) -> bytes:
    return "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines).encode()


def send(client: openai.OpenAI, data: bytes, url: str = GENERATIONS, **more: Any) -> Batch:
    file = client.files.create(file=("lines.jsonl", data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=url, completion_window="24h", **more
    )


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    wait_until(lambda: client.batches.retrieve(batch.id).status in ENDED, "the batch ends")
    return client.batches.retrieve(batch.id)


def read(client: openai.OpenAI, file: str | None) -> dict[str, dict[str, Any]]:
    """What a file of results says, by custom_id."""
    if file is None:
        return {}
    rows = [json.loads(row) for row in client.files.content(file).text.splitlines()]
    return {row["custom_id"]: row for row in rows}


def test_a_batch_is_drawn_and_its_files_are_read(client: openai.OpenAI, shared: Stage) -> None:
    sent = jsonl(
        line(1), "", line(2, n=2), line(3, prompt="unsafe"), line(4, response_format="url")
    )
    batch = send(client, sent, metadata={"who": "ada"})
    assert (batch.object, batch.endpoint, batch.completion_window) == ("batch", GENERATIONS, "24h")
    assert batch.metadata == {"who": "ada"}
    assert (batch.expires_at or 0) - batch.created_at == 86_400
    done = ended(client, batch)
    counts = done.request_counts
    assert counts is not None
    assert (done.status, counts.total, counts.completed, counts.failed) == ("completed", 4, 3, 1)
    assert done.in_progress_at
    assert done.finalizing_at
    assert done.completed_at
    assert done.usage is not None
    assert done.usage.output_tokens > 0
    answers = read(client, done.output_file_id)
    assert sorted(answers) == ["r1", "r2", "r4"]
    assert answers["r1"]["response"]["status_code"] == 200
    data = answers["r2"]["response"]["body"]["data"]
    assert [one["seed"] for one in data] == [2, 3]
    shown = Image.open(io.BytesIO(base64.b64decode(data[0]["b64_json"])))
    assert shown.size == (64, 64)
    assert answers["r4"]["response"]["body"]["data"][0]["url"].startswith("http://localhost/x/v1/")
    errors = read(client, done.error_file_id)
    assert sorted(errors) == ["r3"]
    refused = errors["r3"]["response"]
    assert (refused["status_code"], refused["body"]["error"]["code"]) == (400, "moderation_blocked")
    output = client.files.retrieve(done.output_file_id or "")
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert output.bytes == len(client.files.content(output.id).content)
    assert output.id in [file.id for file in client.files.list(purpose="batch_output")]
    assert done in client.batches.list().data


def test_batches_and_their_lines_are_counted(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    """And lines are no jobs of their own in the list that the studio shows."""
    mine = http.post(f"{shared.url}{GENERATIONS}", json={"prompt": "a fox"}).json()

    def finished(outcome: str) -> float:
        of = {"lane": "default", "outcome": outcome}
        return samples(shared.metrics)("meltproof_batches_ended_total", **of) or 0.0

    completed, failed = finished("completed"), finished("failed")
    ended(client, send(client, jsonl(line(1), line(2))))
    ended(client, send(client, jsonl(line(1), "nonsense")))
    wait_until(
        lambda: (finished("completed"), finished("failed")) == (completed + 1, failed + 1),
        "both ends are counted",
    )
    listed = http.get(f"{shared.url}/v1/jobs?limit=2").json()["data"]
    assert listed[0]["images"][0]["id"] == mine["data"][0]["id"]
    assert "fox 2" not in {job["prompt"] for job in listed}


def test_edits_go_on_from_files(client: openai.OpenAI) -> None:
    kept = client.files.create(file=("fox.png", picture((64, 64), "PNG")), purpose="vision")
    data = base64.b64encode(picture((64, 64), "PNG")).decode()
    sent = jsonl(
        line(1, EDITS, images=[{"file_id": kept.id}]),
        line(2, EDITS, images=[{"image_url": f"data:image/png;base64,{data}"}]),
        line(3, EDITS, images=[{"file_id": "file-" + "0" * 32}]),
    )
    done = ended(client, send(client, sent, EDITS))
    assert done.status == "completed", done
    assert sorted(read(client, done.output_file_id)) == ["r1", "r2"]
    error = read(client, done.error_file_id)["r3"]["response"]["body"]["error"]
    assert (error["code"], error["param"]) == ("file_not_found", "images")


def test_a_batch_with_wrong_lines_is_refused_whole(client: openai.OpenAI, shared: Stage) -> None:
    before = len(shared.jobs())
    sent = jsonl(
        line(1),
        "no json",
        line(1),
        line(3, EDITS),
        line(4, stream=True),
        line(5, size="1x1"),
        line(6, model="another"),
        {**line(7), "method": "GET"},
        {**line(8), "custom_id": ""},
        {**line(9), "body": "text"},
        {"custom_id": "x"},
        {**line(10), "more": 1},
        line(11, prompt="x" * 30_000),
        line(12, partial_images=2),
    )
    done = ended(client, send(client, sent))
    assert done.status == "failed"
    assert done.errors is not None
    found = [(e.line, e.code, e.param) for e in done.errors.data or []]
    assert found == [
        (2, "invalid_json_line", None),
        (3, "duplicate_custom_id", "custom_id"),
        (4, "invalid_url", "url"),
        (5, "unsupported_parameter", "body.stream"),
        (6, "invalid_value", "body.size"),
        (7, "model_not_found", "body.model"),
        (8, "invalid_method", "method"),
        (9, "invalid_custom_id", "custom_id"),
        (10, "invalid_type", "body"),
        (11, "missing_required_parameter", "body"),
        (12, "unknown_parameter", "more"),
        (13, "line_too_long", None),
        (14, "invalid_value", "body.partial_images"),
    ]
    assert all(error.message for error in done.errors.data or [])
    assert len(shared.jobs()) == before


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\n \n", "empty_file"),
        (jsonl(*(line(number) for number in range(41))), "too_many_lines"),
    ],
)
def test_files_without_lines_or_with_too_many(
    client: openai.OpenAI, data: bytes, code: str
) -> None:
    done = ended(client, send(client, data))
    assert done.errors is not None
    assert [error.code for error in done.errors.data or []] == [code]


def test_a_batch_beside_a_days_images(shared: Stage) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-poor", max_retries=0) as poor:
        for number in range(2):
            poor.images.generate(prompt=f"fox {number}")
        with pytest.raises(openai.RateLimitError):
            poor.images.generate(prompt="fox")
        done = ended(poor, send(poor, jsonl(line(1, n=5))))
        assert done.status == "completed", "its images count in no day"
        over = ended(poor, send(poor, jsonl(line(1, n=5), line(2))))
        assert over.errors is not None
        assert [error.code for error in over.errors.data or []] == ["batch_images_exceeded"]
        for file in poor.files.list():
            poor.files.delete(file.id)


def test_a_cancelled_batch_keeps_what_was_drawn(client: openai.OpenAI, shared: Stage) -> None:
    shared.worker.pause()
    batch = send(client, jsonl(*(line(number) for number in range(3))))
    wait_until(lambda: shared.ledger.depth("default").queued_jobs == 3, "its lines are jobs")
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status == "cancelling"
    done = ended(client, batch)
    shared.worker.resume()
    assert (done.status, done.output_file_id) == ("cancelled", None)
    errors = read(client, done.error_file_id)
    assert {row["error"]["code"] for row in errors.values()} == {"batch_cancelled"}
    assert len(errors) == 3
    assert client.batches.cancel(batch.id) == done
    completed = ended(client, send(client, jsonl(line(1))))
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.cancel(completed.id)
    assert refused.value.code == "batch_not_cancellable"


def test_another_tenants_batches_and_files_do_not_exist(
    client: openai.OpenAI, shared: Stage
) -> None:
    done = ended(client, send(client, jsonl(line(1))))
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-other", max_retries=0) as other:
        assert other.batches.list().data == []
        assert other.files.list().data == []
        for ask in (other.batches.retrieve, other.batches.cancel):
            with pytest.raises(openai.NotFoundError):
                ask(done.id)
        for file in (done.output_file_id, done.input_file_id):
            with pytest.raises(openai.NotFoundError):
                other.files.content(file or "")
        with pytest.raises(openai.NotFoundError):
            other.batches.create(
                input_file_id=done.input_file_id, endpoint=GENERATIONS, completion_window="24h"
            )


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"endpoint": "/v1/responses"}, "endpoint", "invalid_value"),
        ({"input_file_id": "x"}, "input_file_id", "file_not_found"),
        ({"metadata": {"a": 1}}, "metadata.a", "invalid_type"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 5}},
         "output_expires_after.seconds", "integer_below_min_value"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_order_is_named(
    http: httpx.Client, client: openai.OpenAI, changes: dict[str, Any], param: str, code: str
) -> None:
    file = client.files.create(file=("lines.jsonl", jsonl(line(1))), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": GENERATIONS, "completion_window": "24h"}
    got = http.post("/v1/batches", json=body | changes)
    assert got.is_client_error, got.text
    assert (got.json()["error"]["param"], got.json()["error"]["code"]) == (param, code)
    client.files.delete(file.id)


def test_a_retry_finds_the_batch_that_is_there(http: httpx.Client, client: openai.OpenAI) -> None:
    file = client.files.create(file=("lines.jsonl", jsonl(line(1))), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": GENERATIONS, "completion_window": "24h"}
    first = http.post("/v1/batches", json=body).json()["id"]
    again = {"x-stainless-retry-count": "1"}
    assert http.post("/v1/batches", json=body, headers=again).json()["id"] == first
    assert http.post("/v1/batches", json=body).json()["id"] != first
    key = {"idempotency-key": "a-batch"}
    keyed = http.post("/v1/batches", json=body, headers=key).json()["id"]
    assert http.post("/v1/batches", json=body, headers=key).json()["id"] == keyed
    other = http.post("/v1/batches", json=body | {"metadata": {"a": "b"}}, headers=key)
    assert other.json()["error"]["code"] == "idempotency_mismatch"


def test_large_files_of_lines_are_kept_and_pictures_are_not(http: httpx.Client) -> None:
    lines = b"x" * 300_000
    kept = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("a.txt", lines)})
    assert kept.status_code == 200, kept.text
    assert http.get(f"/v1/files/{kept.json()['id']}/content").content == lines
    named = {"file": ("a.jsonl", lines), "purpose": (None, "batch")}
    assert http.post("/v1/files", files=named).status_code == 200, "the file comes first"
    huge = {"file": ("a.jsonl", b"x" * 410_000), "purpose": (None, "batch")}
    assert http.post("/v1/files", files=huge).json()["error"]["code"] == "invalid_file_size"
    image = http.post("/v1/files", data={"purpose": "vision"}, files={"file": ("a", lines)})
    assert image.status_code == 413
    as_picture = {"prompt": "fox", "images": [{"file_id": kept.json()["id"]}]}
    assert http.post(EDITS, json=as_picture).json()["error"]["code"] == "file_not_found"


def test_a_new_gateway_goes_on_with_what_another_began(tmp_path: Path) -> None:
    settings = config()
    with stage(tmp_path, settings) as first:
        first.worker.pause()
        with openai.OpenAI(base_url=f"{first.url}/v1", api_key="sk-local") as client:
            batch = send(client, jsonl(*(line(number) for number in range(5))))
            wait_until(lambda: len(first.jobs()) == 5, "its lines are jobs")
    with (
        stage(tmp_path, settings) as second,
        openai.OpenAI(base_url=f"{second.url}/v1", api_key="sk-local") as client,
    ):
        done = ended(client, batch)
        assert len(read(client, done.output_file_id)) == 5
        assert len(second.jobs()) == 5, "no line is drawn twice"


def test_parts_make_a_file(tmp_path: Path) -> None:
    limits = {"body_bytes": 50_000, "image_bytes": 50_000}
    with stage(tmp_path, config(limits=limits)) as running:
        data = bytes(range(256)) * (PART_BYTES // 256) + b"the end"
        headers = running.headers
        kept = httpx.post(
            f"{running.url}/v1/files", data={"purpose": "batch"}, files={"file": data},
            headers=headers, timeout=60,
        ).json()  # fmt: skip
        assert kept["bytes"] == len(data)
        got = httpx.get(f"{running.url}/v1/files/{kept['id']}/content", headers=headers, timeout=60)
        assert got.content == data
