"""Edits over HTTP: forms of the official client, JSON, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from engine.picture import read_png
from engine.region import edit_passes, from_hex
from jobs.job import Job, JobState
from serve_app.uploads.inputs import MOST_ARRIVING, Inputs
from serve_app.wire.errors import TooManyWaiting
from tests.stages.http_stage import Stage, config, drawn, left_alone, newest, stage
from tests.stages.ledger_kit import wait_until
from tests.stages.pictures import mask, picture

CELLS = 64
LIMITS = {"image_bytes": 100_000, "body_bytes": 20_000}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("edits"), config(limits=LIMITS)) as running:
        yield running


LARGE = picture() + b"\0" * 30_000  # what follows a PNG is not looked at


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def redrawn(job: Job) -> int:
    assert job.request.source is not None
    return int(from_hex(job.request.source.redraw, CELLS).sum())


def inputs(running: Stage) -> int:
    """How many prepared pictures there are that nobody has dropped."""
    return len(running.ledger.stale_files(1000, "local")) - len(running.ledger.stale_files(1000))


# The official client


def test_a_masked_edit_redraws_the_masked_cells_alone(client: openai.OpenAI, shared: Stage) -> None:
    answer = client.images.edit(image=picture(), mask=mask(), prompt="a blue door", n=2)
    assert answer.data is not None
    assert answer.usage is not None
    job = newest(shared)
    assert base64.b64decode(answer.data[1].b64_json or "") == drawn(job, 1)
    assert [image.id for image in answer.data] == [f"img_{job.id}_0", f"img_{job.id}_1"]  # type: ignore[attr-defined]
    source = job.request.source
    assert source is not None
    cells = from_hex(source.redraw, CELLS).reshape(8, 8)
    assert cells[:4, :4].all()
    assert cells.sum() == 16
    assert (job.request.passes, source.parent, source.tokens) == (
        edit_passes(12, 16, CELLS),
        None,
        None,
    )
    usage = answer.usage
    assert usage.input_tokens_details.to_dict() == {"image_tokens": 64, "text_tokens": 3}
    assert (usage.output_tokens, usage.total_tokens) == (32, 99)
    canvas = read_png(shared.blobs.get(source.canvas))
    assert (canvas.shape, canvas[0, 0, 3], canvas[-1, -1, 3]) == ((64, 64, 4), 0, 255)
    assert tuple(canvas[-1, -1, :3]) == (0x30, 0x60, 0xC0)
    small = read_png(shared.blobs.get(source.small))
    assert (small.shape, small[0, 0, 3], small[-1, -1, 3]) == ((128, 128, 4), 0, 255)


def test_an_edit_costs_less_than_a_picture(client: openai.OpenAI, shared: Stage) -> None:
    client.images.generate(prompt="a door", quality="high")
    whole = newest(shared).request
    client.images.edit(image=picture(), mask=mask(), prompt="a door", quality="high")
    part = newest(shared).request
    assert part.cost_seconds / whole.cost_seconds == part.passes / whole.passes
    assert part.passes <= whole.passes / 2


@pytest.mark.parametrize(
    ("wishes", "share"),
    [
        ({}, 51),
        ({"input_fidelity": "low"}, 51),
        ({"input_fidelity": "high"}, 32),
        ({"extra_body": {"strength": 0.25}}, 16),
        ({"extra_body": {"strength": 1}}, 64),
    ],
)
def test_without_a_mask_a_share_of_the_cells_is_drawn_again(
    client: openai.OpenAI, shared: Stage, wishes: dict[str, Any], share: int
) -> None:
    client.images.edit(image=[picture()], prompt="in the rain", **wishes)
    assert redrawn(newest(shared)) == share


def test_the_seed_says_which(client: openai.OpenAI, shared: Stage) -> None:
    found = []
    for seed in (5, 5, 6):
        client.images.edit(image=picture(), prompt="rain", extra_body={"seed": seed})
        request = newest(shared).request
        assert request.source is not None
        found.append((request.seed, request.source.redraw))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("sent", "size", "got"),
    [
        ((64, 64), "auto", "64x64"),
        ((160, 96), "auto", "160x96"),
        ((100, 50), "auto", "96x48"),
        ((300, 10), "auto", "96x32"),
        ((64, 64), "128x64", "128x64"),
    ],
)
def test_the_size_is_that_of_the_picture(
    client: openai.OpenAI, sent: tuple[int, int], size: str, got: str
) -> None:
    answer = client.images.edit(image=picture(sent), prompt="rain", size=size)  # type: ignore[call-overload]
    assert answer.size == got
    assert answer.data is not None
    shown = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or "")))
    assert f"{shown.width}x{shown.height}" == got


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_stream_of_an_edit(client: openai.OpenAI, kind: str) -> None:
    events = list(
        client.images.edit(
            image=("fox", picture(kind=kind)), prompt="rain", stream=True, partial_images=2
        )
    )
    kinds = [event.type for event in events]
    assert kinds == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert events[-1].usage.input_tokens_details.image_tokens == 64  # type: ignore[union-attr]


async def test_the_async_client(shared: Stage) -> None:
    async with openai.AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="sk-local") as client:
        answer = await client.images.edit(image=[("a.png", picture())], mask=mask(), prompt="rain")
        assert answer.data is not None


def test_a_file_and_an_earlier_picture_can_be_changed(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    kept = client.files.create(file=picture((96, 64)), purpose="vision")
    body = {"prompt": "rain", "images": [{"file_id": kept.id}]}
    first = http.post("/v1/images/edits", json=body).json()
    assert first["size"] == "96x64"
    image_id = first["data"][0]["id"]
    body = {"prompt": "snow", "images": [{"file_id": image_id}], "response_format": "url"}
    second = http.post("/v1/images/edits", json=body).json()
    assert httpx.get(second["data"][0]["url"]).status_code == 200
    source = newest(shared).request.source
    assert source is not None
    assert source.parent == image_id
    canvas = read_png(shared.blobs.get(source.canvas))
    before = Image.open(io.BytesIO(drawn(shared.ledger.recent("local", 2)[1], 0)))
    assert tuple(canvas[0, 0, :3]) == before.getpixel((0, 0))


def test_json_takes_data_urls_for_everything(http: httpx.Client, shared: Stage) -> None:
    body: dict[str, Any] = {
        "prompt": "rain",
        "images": [{"image_url": data_url(picture())}],
        "mask": {"image_url": data_url(mask(box=(0, 0, 8, 8))).replace("data:image", "DATA:Image")},
    }
    assert http.post("/v1/images/edits", json=body).status_code == 200
    assert redrawn(newest(shared)) == 1
    body["markup"] = body.pop("mask")
    answer = http.post("/v1/images/edits", json={**body, "user": None})
    assert answer.status_code == 200, answer.text
    source = newest(shared).request.source
    assert source is not None
    canvas = read_png(shared.blobs.get(source.canvas))
    assert tuple(canvas[-1, -1, :3]) == (0, 0, 0), "the markup covers it"


@pytest.mark.parametrize("name", ["images", "image", "images[]", "image[]"])
def test_json_spells_its_picture_as_clients_do(http: httpx.Client, name: str) -> None:
    url = data_url(picture())
    for given in (url, {"image_url": url}, [url], [{"image_url": url}]):
        answer = http.post("/v1/images/edits", json={"prompt": "a", name: given, "mask": None})
        assert answer.status_code == 200, (given, answer.text)


@pytest.mark.parametrize(
    ("name", "filename"),
    [("image", "a"), ("image[]", "a"), ("image[0]", "a"), ("images", "a"), ("images[]", "")],
)
def test_a_form_spells_its_picture_as_clients_do(
    http: httpx.Client, name: str, filename: str
) -> None:
    empty = {"n": "", "user": "", "response_format": "", "markup": "", "stream": ""}
    said = {"prompt": "a", "output_format": "png", **empty}
    head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
    no_file = '--b\r\nContent-Disposition: form-data; name="mask"; filename=""\r\n\r\n\r\n'
    fields = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{text}\r\n'
        for field, text in said.items()
    )
    body = f"{no_file}{fields}--b\r\n{head}".encode() + picture() + b"\r\n--b--\r\n"
    form = {"content-type": "multipart/form-data; boundary=b"}
    answer = http.post("/v1/images/edits", content=body, headers=form)
    assert answer.status_code == 200, answer.text


def test_an_edit_can_be_a_job(http: httpx.Client, shared: Stage) -> None:
    answer = http.post(
        "/v1/images/edits",
        data={"prompt": "rain"},
        files={"image": picture()},
        headers={"prefer": "respond-async"},
    )
    assert answer.status_code == 202
    job = answer.json()
    assert job["images"][0]["id"] == f"img_{job['id']}_0"
    assert (
        http.get(answer.headers["location"]).json()["passes_total"] == newest(shared).request.passes
    )


# Retries


def test_a_retry_finds_the_job_whatever_its_boundary(http: httpx.Client, shared: Stage) -> None:
    shared.worker.pause()
    sent: dict[str, Any] = {"data": {"prompt": "once"}, "files": {"image": picture()}}
    lost = http.build_request("POST", "/v1/images/edits", **sent)
    job = left_alone(shared, lost.read(), "/v1/images/edits", lost.headers["content-type"])
    kept = inputs(shared)
    shared.worker.resume()
    answer = http.post("/v1/images/edits", **sent, headers={"x-stainless-retry-count": "1"})
    assert (answer.status_code, answer.headers["x-job-id"]) == (200, job.id)
    assert inputs(shared) == kept - 1, "nothing of it is needed any more"
    other = {**sent, "files": {"image": picture(colour="red")}}
    answer = http.post("/v1/images/edits", **other, headers={"x-stainless-retry-count": "1"})
    assert answer.headers["x-job-id"] != job.id


def test_an_idempotency_key_names_the_pictures_too(http: httpx.Client) -> None:
    headers = {"idempotency-key": "an-edit"}
    sent: dict[str, Any] = {"data": {"prompt": "rain"}, "headers": headers}
    answers = [
        http.post("/v1/images/edits", **sent, files={"image": picture(colour=colour)})
        for colour in ("red", "red", "green")
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert answers[0].headers["x-job-id"] == answers[1].headers["x-job-id"]


def test_quota_holds_and_what_was_sent_is_not_kept(shared: Stage) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-poor", max_retries=0) as poor:
        poor.images.edit(image=picture(), prompt="rain", n=2)
        with pytest.raises(openai.RateLimitError) as refused:
            poor.images.edit(image=picture(), prompt="rain")
    assert refused.value.code == "insufficient_quota"
    stored = shared.ledger.stale_files(1000, "poor")
    assert len(stored) == 1, "what is refused is not stored at all"
    assert set(stored) <= set(shared.ledger.stale_files(1000))


# Refusals


@pytest.mark.parametrize(
    ("fields", "files", "param", "code"),
    [
        ({}, {"image": picture()}, "prompt", "missing_required_parameter"),
        ({"prompt": "a"}, {"mask": mask()}, "image", "missing_required_parameter"),
        (
            {"prompt": "a"},
            {"image": picture(), "mask": mask((32, 32))},
            "mask",
            "mask_size_mismatch",
        ),
        ({"prompt": "a"}, {"image": picture(), "mask": picture()}, "mask", "mask_without_alpha"),
        ({"prompt": "a"}, {"image": b"GIF89a" + b"\0" * 50}, "image", "unsupported_image"),
        ({"prompt": "a"}, {"image": b""}, "image", "broken_image"),
        ({"prompt": "a"}, {"image": picture() + b"\0" * 100_000}, "image", "image_too_large"),
        ({"prompt": "a"}, {"image": picture(), "mask": mask(), "markup": mask()}, "markup", None),
        ({"prompt": "a"}, {"image": picture(), "other": mask()}, "other", "unknown_parameter"),
        ({"prompt": "a", "mask": "text"}, {"image": picture()}, "mask", "unsupported_parameter"),
        ({"prompt": "a", "mask": mask()}, {"image": picture()}, "mask", "unsupported_parameter"),
        ({"prompt": "a", "n": "two"}, {"image": picture()}, "n", "invalid_type"),
        ({"prompt": "a", "n": "0"}, {"image": picture()}, "n", "integer_below_min_value"),
        ({"prompt": "a", "n": "11"}, {"image": picture()}, "n", "integer_above_max_value"),
        ({"prompt": "a", "stream": "yes"}, {"image": picture()}, "stream", "invalid_type"),
        ({"prompt": "a", "strength": "0"}, {"image": picture()}, "strength", None),
        ({"prompt": "a", "strength": "1.5"}, {"image": picture()}, "strength", None),
        ({"prompt": "a", "strength": ".5"}, {"image": picture(), "mask": mask()}, "strength", None),
        ({"prompt": "a", "size": "65x64"}, {"image": picture()}, "size", "invalid_value"),
        ({"prompt": "a", "input_fidelity": "no"}, {"image": picture()}, "input_fidelity", None),
    ],
)
def test_what_is_wrong_in_a_form_is_named(
    http: httpx.Client,
    shared: Stage,
    fields: dict[str, str | bytes],
    files: dict[str, bytes],
    param: str,
    code: str | None,
) -> None:
    before = shared.rows()
    answer = http.post("/v1/images/edits", data=fields, files=files)
    assert answer.status_code in (400, 404), answer.text
    problem = answer.json()["error"]
    assert problem["param"] == param
    assert code in (None, problem["code"])
    assert shared.rows() == before


IMAGE = [{"image_url": data_url(picture())}]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "prompt", "missing_required_parameter"),
        ({"prompt": "a"}, "images", "missing_required_parameter"),
        ({"prompt": "a", "images": []}, "images", "invalid_value"),
        ({"prompt": "a", "images": IMAGE * 2}, "images", "too_many_images"),
        ({"prompt": "a", "images": IMAGE * 17}, "images", "invalid_value"),
        ({"prompt": "a", "images": [{}]}, "images[0]", "invalid_value"),
        ({"prompt": "a", "images": ["img_1"]}, "images", "image_not_found"),
        ({"prompt": "a", "image": 3}, "images[0]", "invalid_type"),
        ({"prompt": "a", "image": ""}, "images", "invalid_image_url"),
        ({"prompt": "a", "images": IMAGE, "image": IMAGE}, "image", "invalid_value"),
        ({"prompt": "a", "images": ["iVBORw0KGgo="]}, "images", "invalid_image_url"),
        ({"prompt": "a", "images": [{"file_id": 3}]}, "images[0].file_id", "invalid_type"),
        ({"prompt": "a", "images": [{"url": "x"}]}, "images[0].url", "unknown_parameter"),
        ({"prompt": "a", "images": IMAGE, "mask": {"file_id": "file-x"}}, "mask", "file_not_found"),
        ({"prompt": "a", "images": [{"file_id": "img_\0"}]}, "images", "image_not_found"),
        ({"prompt": "a", "images": [{"file_id": "\0"}]}, "images", "file_not_found"),
        ({"prompt": "a", "images": [{"image_url": "data:,x"}]}, "images", "unsupported_image"),
        ({"prompt": "a", "images": [{"image_url": "data:image/png"}]}, "images", None),
        (
            {"prompt": "a", "images": [{"image_url": "data:image/png;base64,a b="}]},
            "images",
            "invalid_base64",
        ),
        (
            {"prompt": "a", "images": [{"image_url": "http://127.0.0.1/a.png"}]},
            "images",
            "invalid_image_url",
        ),
        (
            {"prompt": "a", "images": [{"image_url": "file:///etc/passwd"}]},
            "images",
            "invalid_image_url",
        ),
        (
            {"prompt": "a", "images": [{"image_url": data_url(b"\0" * 100_010)}]},
            "images",
            "image_too_large",
        ),
    ],
)
def test_what_is_wrong_in_json_is_named(
    http: httpx.Client, body: dict[str, Any], param: str | None, code: str | None
) -> None:
    answer = http.post("/v1/images/edits", json=body)
    assert answer.status_code in (400, 404), answer.text
    problem = answer.json()["error"]
    assert param in (None, problem["param"])
    assert code in (None, problem["code"])


def test_pictures_of_others_do_not_exist(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    kept = client.files.create(file=picture(), purpose="vision")
    client.images.generate(prompt="mine")
    mine = f"img_{newest(shared).id}_0"
    other = {"authorization": "Bearer sk-other"}
    for file_id in (kept.id, mine, mine[:-1] + "7"):
        for body in (
            {"prompt": "a", "images": [{"file_id": file_id}]},
            {"prompt": "a", "images": IMAGE, "mask": {"file_id": file_id}},
        ):
            answer = http.post("/v1/images/edits", json=body, headers=other)
            assert answer.status_code == 404, answer.text
    prepared = next(f for f in shared.ledger.stale_files(1000, "local") if f.purpose == "input")
    body = {"prompt": "a", "images": [{"file_id": prepared.id}]}
    assert http.post("/v1/images/edits", json=body).status_code == 404


def test_unknown_clients_are_refused_before_their_body_is_read(shared: Stage) -> None:
    url = httpx.URL(shared.url)
    head = "POST /v1/images/edits HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n"
    with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")


def test_who_leaves_in_the_middle_of_an_upload_leaves_nothing(
    http: httpx.Client, shared: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    edit: dict[str, Any] = {"data": {"prompt": "rain"}, "files": {"image": picture()}}
    assert http.post("/v1/images/edits", **edit).status_code == 200
    url, kept = httpx.URL(shared.url), len(os.listdir("/proc/self/fd"))
    head = (
        "POST /v1/images/edits HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-local\r\n"
        "content-length: 200000\r\ncontent-type: multipart/form-data; boundary=x\r\n\r\n"
        '--x\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
    )
    for _ in range(8):
        with socket.create_connection((url.host, url.port or 0), timeout=60) as connection:
            connection.sendall(head.encode() + b"\0" * 150_000)
    assert http.post("/v1/images/edits", **edit).status_code == 200
    assert "failed" not in caplog.text
    wait_until(lambda: len(os.listdir("/proc/self/fd")) < kept + 8, "the uploads are forgotten")


def test_one_tenants_slow_uploads_fill_only_their_own_room(shared: Stage) -> None:
    url = httpx.URL(shared.url)
    head = (
        "POST /v1/images/edits HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-local\r\n"
        "content-length: 90000\r\n\r\n{"
    )
    sent: dict[str, Any] = {"data": {"prompt": "rain"}, "files": {"image": LARGE}}
    with ExitStack() as open_ones:
        for _ in range(MOST_ARRIVING):
            one = socket.create_connection((url.host, url.port or 0), timeout=60)
            open_ones.enter_context(one).sendall(head.encode())
        where = f"{shared.url}/v1/images/edits"
        mine = httpx.post(where, **sent, headers=shared.headers)
        while mine.status_code == 200:  # until all have come in
            mine = httpx.post(where, **sent, headers=shared.headers)
        others = httpx.post(where, **sent, headers={"authorization": "Bearer sk-other"})
        small = httpx.post(
            where, json={"prompt": "a", "images": [{"file_id": "x"}]}, headers=shared.headers
        )
    answers = [answer.status_code for answer in (mine, others, small)]
    assert answers == [429, 200, 404]


async def test_slow_uploads_of_a_few_tenants_leave_room_for_others() -> None:
    room = Inputs(None, None)  # type: ignore[arg-type]
    async with AsyncExitStack() as open_ones:
        for number in range(20 * MOST_ARRIVING):
            with suppress(TooManyWaiting):
                await open_ones.enter_async_context(room.arriving(f"greedy{number % 20}", True))
        await open_ones.enter_async_context(room.arriving("other", True))


def test_a_form_that_is_cut_off_is_refused(http: httpx.Client, shared: Stage) -> None:
    """Its last picture would be missing: here a mask, and everything would be drawn anew."""
    files = {"image": picture(), "mask": mask()}
    whole = http.build_request("POST", "/v1/images/edits", data={"prompt": "a"}, files=files)
    body, kind = whole.read(), {"content-type": whole.headers["content-type"]}
    before = shared.rows()
    for cut in (body[:-20], body[:-4], body[: body.index(b'name="mask"')]):
        answer = http.post("/v1/images/edits", content=cut, headers=kind)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form"), cut
    assert shared.rows() == before
    assert http.post("/v1/images/edits", content=body, headers=kind).status_code == 200


def test_the_fields_of_a_form_are_bounded_together(http: httpx.Client) -> None:
    """They are in memory while the form comes in, slowly perhaps, beside many others."""
    fields = {f"field{i}": "x" * (LIMITS["body_bytes"] // 4) for i in range(5)}
    answer = http.post("/v1/images/edits", data=fields, files={"image": picture()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form")


def test_json_of_many_small_parts_is_not_unpacked(http: httpx.Client) -> None:
    body = b'{"prompt": "a", "images": [' + b"{}," * 100_000 + b"{}]}"
    answer = http.post("/v1/images/edits", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    prompt = "[,{" * 6_000  # a strange one, and all of it text
    answer = http.post("/v1/images/edits", json={"prompt": prompt, "images": [{"file_id": "x"}]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


def test_a_body_is_bounded(http: httpx.Client) -> None:
    answer = http.post("/v1/images/edits", data={"prompt": "a"}, files={"image": b"\0" * 400_000})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    body = json.dumps({"prompt": "a" * 450_000})
    assert http.post("/v1/images/edits", content=body).status_code == 413


def test_variations_are_gone(client: openai.OpenAI) -> None:
    with (
        pytest.raises(openai.APIStatusError) as refused,
        pytest.warns(DeprecationWarning, match="deprecated"),
    ):
        client.images.create_variation(image=picture())
    assert refused.value.status_code == 410
    assert "/tweaks" in refused.value.message


def test_a_blocked_edit_says_so(client: openai.OpenAI, shared: Stage) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(image=picture(), prompt="unsafe")
    assert refused.value.code == "moderation_blocked"
    assert newest(shared).state is JobState.BLOCKED
