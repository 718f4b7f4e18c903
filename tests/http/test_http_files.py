"""Files over HTTP: the official client keeps pictures here, and nobody else sees them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.stages.http_stage import Stage, config, stage
from tests.stages.pictures import picture


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    limits = {"files": 3, "image_bytes": 100_000, "body_bytes": 20_000}
    with stage(tmp_path_factory.mktemp("files"), config(limits=limits)) as running:
        yield running


@pytest.fixture
def client(shared: Stage) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-local", max_retries=0) as made:
        yield made
        for file in made.files.list():
            made.files.delete(file.id)


def post(shared: Stage, **parts: object) -> httpx.Response:
    return httpx.post(f"{shared.url}/v1/files", headers=shared.headers, **parts)  # type: ignore[arg-type]


def test_a_picture_is_kept_plain_and_forgotten(client: openai.OpenAI, shared: Stage) -> None:
    sent = picture((80, 64), "JPEG")
    kept = client.files.create(file=("fox.jpg", sent), purpose="vision")
    assert (kept.object, kept.purpose, kept.filename) == ("file", "vision", "fox.jpg")
    assert (kept.expires_at or 0) - kept.created_at == 30 * 86_400
    assert client.files.retrieve(kept.id) == kept
    content = client.files.content(kept.id)
    shown = Image.open(io.BytesIO(content.content))
    assert (shown.format, shown.size, kept.size) == ("JPEG", (80, 64), "80x64")  # type: ignore[attr-defined]
    assert kept.bytes == len(sent) >= len(content.content)
    assert content.response.headers["content-type"] == "image/jpeg"
    assert client.files.delete(kept.id).deleted
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(kept.id)
        assert refused.value.code == "file_not_found"


def test_files_are_listed_page_by_page_and_their_number_is_limited(client: openai.OpenAI) -> None:
    kept = [client.files.create(file=picture(), purpose="vision").id for _ in range(3)]
    assert [file.id for file in client.files.list()] == kept[::-1]
    page = client.files.list(limit=2)
    assert ([file.id for file in page.data], page.has_more) == (kept[:0:-1], True)
    assert [file.id for file in client.files.list(limit=2, after=kept[1])] == kept[:1]
    assert client.files.list(purpose="batch").data == []
    with pytest.raises(openai.BadRequestError) as refused:
        client.files.create(file=picture(), purpose="vision")
    assert refused.value.code == "too_many_files"


def test_another_tenants_file_does_not_exist(client: openai.OpenAI, shared: Stage) -> None:
    kept = client.files.create(file=picture(), purpose="vision")
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key="sk-other", max_retries=0) as other:
        assert other.files.list().data == []
        assert other.files.list(after=kept.id).data == []
        for ask in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                ask(kept.id)
    assert client.files.retrieve(kept.id) == kept


@pytest.mark.parametrize(
    ("data", "file", "param", "code"),
    [
        ({"purpose": "vision"}, b"no picture at all", "file", "unsupported_image"),
        ({"purpose": "vision"}, picture()[:100], "file", "broken_image"),
        ({"purpose": "vision"}, b"\0" * 110_000, "file", "image_too_large"),
        ({}, picture(), "purpose", "invalid_value"),
        ({"purpose": "vision", "file": "no file"}, None, "file", "invalid_type"),
        ({"purpose": ""}, picture(), "purpose", "invalid_value"),
        ({"purpose": "vision", "colour": "red"}, picture(), "colour", "unknown_parameter"),
        ({"purpose": "vision"}, None, "file", "missing_required_parameter"),
        ({"purpose": "vision", "expires_after[anchor]": "now"}, picture(), None, "invalid_value"),
    ],
)
def test_what_is_wrong_is_named(
    shared: Stage, data: dict[str, str], file: bytes | None, param: str | None, code: str
) -> None:
    files: dict[str, Any] = {"file": ("a.png", file)}
    if file is None:
        files, data = {name: (None, text) for name, text in data.items()}, {}
    got = post(shared, data=data, files=files)
    assert got.status_code == 400, got.text
    assert got.json()["error"]["code"] == code
    assert param in (None, got.json()["error"]["param"])
    assert httpx.get(f"{shared.url}/v1/files", headers=shared.headers).json()["data"] == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b"nonsense"),
        ("multipart/form-data; boundary=x", b"--x\r\nno colon\r\n\r\n--x--"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
        ),
        ("multipart/form-data; boundary=" + "x" * 71, b""),
        ("multipart/form-data; boundary=x; charset=hex", b"--x\r\nContent-Disp"),
    ],
)
def test_a_broken_form_is_refused(shared: Stage, content_type: str, body: bytes) -> None:
    headers = {**shared.headers, "content-type": content_type}
    got = httpx.post(f"{shared.url}/v1/files", headers=headers, content=body)
    assert got.status_code == 400, got.text
    assert got.json()["error"]["type"] == "invalid_request_error"


def test_bodies_and_fields_are_bounded(shared: Stage) -> None:
    picture_file = ("a.png", picture())
    two = post(shared, data={"purpose": "vision"}, files={"file": picture_file, "b": picture_file})
    many = post(shared, data={f"f{n}": "" for n in range(100)}, files={"file": picture_file})
    long = post(shared, data={"purpose": "v" * 30_000}, files={"file": picture_file})
    huge = post(shared, data={"purpose": "vision"}, files={"file": ("a.png", b"\0" * 400_000)})
    assert [got.status_code for got in (two, many, long, huge)] == [400, 400, 400, 413]
    unknown = httpx.post(f"{shared.url}/v1/files", files={"file": picture_file})
    assert unknown.status_code == 401
