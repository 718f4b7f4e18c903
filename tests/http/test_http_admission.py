"""Quota, rollout and a full queue are asked before a body is read, decoded or stored; and pictures
behind URLs are fetched before their edit's turn."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from jobs.request import Tenant
from serve_app.access.tokens import mint
from serve_app.config.sections import RemoteImagesSection
from serve_app.uploads import fetching
from tests.stages.http_stage import Stage, config, stage
from tests.stages.pictures import picture

SECRET = "s" * 32
EDITS, IMAGES, FILES = "/v1/images/edits", "/v1/images/generations", "/v1/files"
ONE_FILE_BYTES = 450
"""Room for one small picture and not for two."""
SETTINGS = {
    "tiers": {
        "free": {},
        "poor": {"images_per_day": 2, "newcomer_files_bytes": ONE_FILE_BYTES},
        "closed": {"rollout": "off"},
        "patient": {"queued_jobs": 1},
    },
    "keys": [
        {"key": "sk-local", "tenant": "local"},
        {"key": "sk-other", "tenant": "other"},
        {"key": "sk-closed", "tenant": "closed", "tier": "closed"},
        {"key": "sk-patient", "tenant": "patient", "tier": "patient"},
    ],
    "signing": [{"id": "new", "secret": SECRET}],
    "limits": {"body_bytes": 50_000, "remote_images": {"hosts": ["pictures.example"]}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("admission")


@pytest.fixture(scope="module")
def running(place: Path) -> Iterator[Stage]:
    with stage(place, config(**SETTINGS)) as made:
        yield made


@pytest.fixture(scope="module")
def http(running: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as made:
        yield made


def blobs(place: Path) -> set[Path]:
    return {path for path in (place / "blobs").rglob("*") if path.is_file()}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def poor(tenant: str) -> dict[str, str]:
    return bearer(mint(Tenant(tenant, "poor"), time.time() + 600, "new", SECRET.encode()))


def edit(http: httpx.Client, headers: dict[str, str], n: int = 1, **more: str) -> httpx.Response:
    form = {"prompt": "rain", "n": str(n)}
    return http.post(EDITS, data=form, files={"image": picture()}, headers={**headers, **more})


def upload(http: httpx.Client, headers: dict[str, str]) -> httpx.Response:
    return http.post(
        FILES, data={"purpose": "vision"}, files={"file": ("a.png", picture())}, headers=headers
    )


def code(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"]["code"]


def test_who_is_over_quota_stores_nothing(http: httpx.Client, place: Path) -> None:
    ada = poor("ada")
    made = http.post(IMAGES, json={"prompt": "fox"}, headers=ada)
    assert made.status_code == 200
    before = blobs(place)
    assert code(edit(http, ada, n=2)) == (429, "insufficient_quota"), "one is left"
    assert blobs(place) == before
    assert edit(http, ada).status_code == 200
    image = made.json()["data"][0]["id"]
    before = blobs(place)
    tweak, again = f"/v1/images/{image}/tweaks", {**ada, "x-stainless-retry-count": "1"}
    for answer in (
        edit(http, ada),
        edit(http, ada, **{"idempotency-key": "never-seen"}),
        edit(http, ada, n=2, **{"x-stainless-retry-count": "1"}),
        http.post(tweak, json={"prompt": "rain"}, headers=ada),
        http.post(tweak, json={"prompt": "snow"}, headers=again),
        upload(http, ada),
        http.post(IMAGES, json={"prompt": "fox"}, headers=ada),
    ):
        assert code(answer) == (429, "insufficient_quota")
        assert answer.headers["x-should-retry"] == "false"
        assert answer.headers["x-ratelimit-remaining-images"] == "0"
    assert blobs(place) == before


def test_a_retry_finds_its_job_though_the_quota_is_used_up(http: httpx.Client) -> None:
    bob = poor("bob")
    first = edit(http, bob, n=2, **{"idempotency-key": "k"})
    again = edit(http, bob, n=2, **{"idempotency-key": "k"})
    counted = edit(http, bob, n=2, **{"idempotency-key": "k", "x-stainless-retry-count": "2"})
    assert [one.status_code for one in (first, again, counted)] == [200] * 3
    assert first.headers["x-job-id"] == again.headers["x-job-id"] == counted.headers["x-job-id"]
    other = edit(http, bob, n=1, **{"idempotency-key": "k"})
    assert code(other) == (422, "idempotency_mismatch")
    cy = poor("cy")
    first = edit(http, cy, n=2)
    again = edit(http, cy, n=2, **{"x-stainless-retry-count": "1"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.headers["x-job-id"] == again.headers["x-job-id"]


def test_a_closed_account_stores_nothing(http: httpx.Client, place: Path) -> None:
    before = blobs(place)
    closed = bearer("sk-closed")
    for answer in (
        edit(http, closed),
        edit(http, closed, **{"idempotency-key": "k", "x-stainless-retry-count": "1"}),
        upload(http, closed),
        http.post(IMAGES, json={"prompt": "fox"}, headers=closed),
    ):
        assert code(answer) == (403, "not_yet_open")
    assert blobs(place) == before


def test_whose_queue_is_full_stores_no_edit(
    running: Stage, http: httpx.Client, place: Path
) -> None:
    patient = bearer("sk-patient")
    running.worker.pause()
    try:
        waiting = {**patient, "prefer": "respond-async"}
        assert http.post(IMAGES, json={"prompt": "fox"}, headers=waiting).status_code == 202
        before = blobs(place)
        refused = edit(http, patient)
        assert code(refused) == (429, "rate_limit_exceeded")
        assert int(refused.headers["retry-after"]) >= 1
        assert blobs(place) == before
        assert upload(http, patient).status_code == 200, "files wait for no queue"
    finally:
        running.worker.resume()


@pytest.mark.parametrize("path", [EDITS, FILES, IMAGES])
def test_the_refusal_comes_before_the_body(running: Stage, http: httpx.Client, path: str) -> None:
    closed = bearer("sk-closed")
    http.post(IMAGES, json={"prompt": "fox"}, headers=closed)
    where = urlsplit(running.url)
    head = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Authorization: {closed['authorization']}",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Length: 40000",
    ]
    with socket.create_connection((where.hostname, where.port), timeout=60) as client:
        client.sendall("\r\n".join([*head, "", ""]).encode())
        assert client.recv(65_536).startswith(b"HTTP/1.1 403 ")


def test_one_who_never_ordered_keeps_little(http: httpx.Client) -> None:
    zoe = poor("zoe")
    kept = upload(http, zoe)
    assert kept.status_code == 200
    assert ONE_FILE_BYTES / 2 < kept.json()["bytes"] <= ONE_FILE_BYTES, "the test's own numbers"
    assert code(upload(http, zoe)) == (400, "too_many_files")
    assert http.post(IMAGES, json={"prompt": "fox"}, headers=zoe).status_code == 200
    assert upload(http, zoe).status_code == 200


def test_orders_of_others_cost_no_question_more(
    running: Stage, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(running.gateway_ledger, "check_admission", never)
    assert http.post(IMAGES, json={"prompt": "fox"}, headers=bearer("sk-local")).status_code == 200


def test_a_slow_server_of_pictures_keeps_nobody_waiting(
    running: Stage, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), threading.Semaphore(0)

    async def slow(url: str, remote: RemoteImagesSection) -> bytes:
        assert (url, remote.hosts) == ("https://pictures.example/a.png", ("pictures.example",))
        asked.release()
        while not answers.is_set():
            await fetching.asyncio.sleep(0.01)
        return picture()

    monkeypatch.setattr(fetching, "fetch", slow)
    body = {"prompt": "rain", "images": [{"image_url": "https://pictures.example/a.png"}]}
    with ThreadPoolExecutor(5) as clients:
        slow_ones = [
            clients.submit(http.post, EDITS, json=body, headers=bearer("sk-local"))
            for _ in range(4)
        ]
        try:
            for _ in range(fetching.MOST_OF_TENANT):
                assert asked.acquire(timeout=60)
            assert edit(http, bearer("sk-local")).status_code == 200
            other = clients.submit(http.post, EDITS, json=body, headers=bearer("sk-other"))
            assert asked.acquire(timeout=60), "two of one tenant leave room for others"
            assert not asked.acquire(blocking=False)
        finally:
            answers.set()
        assert {one.result().status_code for one in (*slow_ones, other)} == {200}


def test_a_url_that_is_not_fetched_is_named(http: httpx.Client) -> None:
    pictures = [{"image_url": "https://elsewhere.example/a.png"}]
    body = {"prompt": "rain", "images": pictures, "seed": 1}
    answer = http.post(EDITS, json=body, headers=bearer("sk-local"))
    assert code(answer) == (400, "invalid_image_url")
    assert answer.json()["error"]["param"] == "images"
    masked = {"image_url": "data:image/png;base64," + base64.b64encode(picture()).decode()}
    body = {"prompt": "rain", "images": [masked], "mask": pictures[0]}
    answer = http.post(EDITS, json=body, headers=bearer("sk-local"))
    assert (code(answer), answer.json()["error"]["param"]) == ((400, "invalid_image_url"), "mask")
