"""Pictures in a bucket: read through the gateway or at the bucket itself, and while it is away."""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from PIL import Image

from jobs.blobs.opening import open_store
from jobs.blobs.store import BlobStore
from scripts.servers.seaweedfs import SeaweedFS
from serve_app.config.blobs import S3Section
from serve_app.delivery.pieces import INLINE_BYTES
from tests.stages.http_stage import Stage, config, drawn, newest, stage
from tests.stages.pictures import picture


def store(server: SeaweedFS, downloads: str) -> BlobStore:
    section = server.section(prefix=secrets.token_hex(8), downloads=downloads)
    return open_store(S3Section(**section).place())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, seaweedfs: SeaweedFS) -> Iterator[Stage]:
    directory, blobs = tmp_path_factory.mktemp("s3"), store(seaweedfs, "proxied")
    with stage(directory, config(limits={"image_bytes": 100_000}), store=blobs) as running:
        yield running


def test_a_picture_is_read_through_the_gateway(client: openai.OpenAI, shared: Stage) -> None:
    answer = client.images.generate(prompt="a red fox", model="test-model", n=2)
    assert answer.data is not None
    job = newest(shared)
    files = [base64.b64decode(one.b64_json or "") for one in answer.data]
    assert files == [drawn(job, 0), drawn(job, 1)]
    url = client.images.generate(prompt="a blue fox", response_format="url").data
    assert url is not None
    link = url[0].url or ""
    got, head = httpx.get(link), httpx.head(link)
    assert got.content == drawn(newest(shared), 0)
    assert head.headers["content-length"] == str(len(got.content))
    assert got.headers["content-type"] == head.headers["content-type"] == "image/png"


def test_a_large_picture_comes_in_pieces(http: httpx.Client, shared: Stage) -> None:
    job = http.post("/v1/images/generations", json={"prompt": "noise"}, timeout=60)
    assert job.status_code == 200
    blob = newest(shared).renders[0].blob
    assert blob is not None
    noise = io.BytesIO()
    Image.effect_noise((1024, 1024), 90).save(noise, "png")
    assert len(noise.getvalue()) > 10 * INLINE_BYTES
    shared.blobs.delete(blob)
    shared.blobs.put(blob, noise.getvalue())
    got = http.get(f"/v1/jobs/{newest(shared).id}/images/0")
    assert got.content == noise.getvalue()


def test_a_picture_that_is_gone_is_410(http: httpx.Client, shared: Stage) -> None:
    assert http.post("/v1/images/generations", json={"prompt": "a red fox"}).status_code == 200
    job = newest(shared)
    shared.blobs.delete(job.renders[0].blob or "")
    assert http.get(f"/v1/jobs/{job.id}/images/0").status_code == 410


def test_a_client_is_sent_to_the_bucket(tmp_path: Path, seaweedfs: SeaweedFS) -> None:
    with stage(tmp_path, config(), store=store(seaweedfs, "redirect")) as running:
        http = httpx.Client(base_url=running.url, headers=running.headers, timeout=60)
        assert http.post("/v1/images/generations", json={"prompt": "a red fox"}).status_code == 200
        path = f"/v1/jobs/{newest(running).id}/images/0"
        told = http.get(path)
        assert (told.status_code, told.headers["cache-control"]) == (307, "private, no-store")
        assert told.headers["location"].startswith(seaweedfs.endpoint)
        for method in ("GET", "HEAD"):
            got = http.request(method, path, follow_redirects=True)
            assert (got.status_code, got.headers["content-type"]) == (200, "image/png")
            assert got.content == (drawn(newest(running), 0) if method == "GET" else b"")
        page = http.get(path, headers={"sec-fetch-site": "same-origin"})
        assert (page.status_code, page.content) == (200, drawn(newest(running), 0))
        assert http.get(path.replace("/0", "/1")).status_code == 404
        assert httpx.get(f"{running.url}{path}").status_code == 401, "the bucket opens to owners"
        http.close()


def test_while_the_bucket_is_away_what_needs_it_is_503(
    http: httpx.Client, shared: Stage, seaweedfs: SeaweedFS
) -> None:
    order = {"prompt": "a red fox"}
    assert http.post("/v1/images/generations", json=order).status_code == 200
    path = f"/v1/jobs/{newest(shared).id}/images/0"
    before = http.get(path).content
    seaweedfs.stop()
    try:
        read = http.get(path)
        edit = http.post(
            "/v1/images/edits", data={"prompt": "a blue door"}, files={"image": picture()}
        )
        upload = http.post("/v1/files", data={"purpose": "vision"}, files={"file": picture()})
        shared.worker.pause()
        queued = http.post(
            "/v1/images/generations", json=order, headers={"prefer": "respond-async"}
        )
    finally:
        seaweedfs.start()
        shared.worker.resume()
    assert (read.status_code, read.json()["error"]["code"]) == (503, "store_unavailable")
    for refused in (read, edit, upload):
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
    assert http.get("/v1/files").json()["data"] == []
    assert queued.status_code == 202, "orders go on"
    assert http.get(path).content == before
    again = http.post(
        "/v1/images/edits", data={"prompt": "a blue door"}, files={"image": picture()}
    )
    assert again.status_code == 200
