"""What many clients may do to the gateway: poll too often, guess keys, send or read too slowly."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import count, cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from jobs.job import JobState
from serve_app.admission import readiness
from serve_app.admission.cooldown import COOLDOWN, READS
from serve_app.admission.queue import AdmissionQueue, VegasLimit
from serve_app.gateway import adopt
from serve_app.orders import callers, pictures
from serve_app.uploads.inputs import MOST_SMALL_ARRIVING
from serve_app.wire.jobs import LISTED_CHARACTERS
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until

LIMITS = {
    "body_bytes": 50_000,
    "polls_per_second": 2.0,
    "refused_per_second": 0.001,
    "unauthenticated_per_second": 0.001,  # one, and no other as long as this lasts
}
IMAGES = "/v1/images/generations"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stage]:
    gateway = {"trusted_proxies": ["127.0.0.1"]}
    with stage(tmp_path, config(limits=LIMITS, gateway=gateway)) as made:
        yield made


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Stage]:
    """Patient with nobody."""
    with stage(tmp_path, config(limits={"body_seconds": 0.3})) as made:
        yield made


@pytest.fixture
def http(running: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, headers=running.headers, timeout=60) as made:
        yield made


def refused(answers: Iterator[httpx.Response]) -> httpx.Response:
    """The first refusal, which is not the first answer."""
    assert next(answers).status_code != 429
    return next(answer for answer in answers if answer.status_code == 429)


def test_polls_have_a_limit_and_orders_have_none(running: Stage, http: httpx.Client) -> None:
    paths = ["/v1/jobs", "/v1/limits", "/v1/models", "/v1/jobs/none", "/v1/jobs/none/events"]
    answer = refused(http.get(path) for path in cycle(paths))
    assert answer.json() == {
        "error": {
            "message": "Rate limit reached for your account: 2 a second. Try again in 1 s.",
            "type": "requests",
            "param": None,
            "code": "rate_limit_exceeded",
        }
    }
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-request-id"]
    seconds, scope = answer.headers[COOLDOWN].split()
    assert scope == READS
    assert 0 < float(seconds) <= 0.5, "until the bucket holds a token again"
    orders = [http.post(IMAGES, json={"prompt": f"fox {i}"}) for i in range(10)]
    assert {order.status_code for order in orders} == {200}
    others = {"authorization": "Bearer sk-other"}
    assert http.get("/v1/jobs", headers=others).status_code == 200
    assert http.get("/healthz").status_code == 200


def test_a_list_costs_as_much_as_it_reads(running: Stage, http: httpx.Client) -> None:
    """A long list of one's own jobs is no cheaper than asking for each of them."""
    orders = [http.post(IMAGES, json={"prompt": "x" * 5_000, "n": 10}) for _ in range(15)]
    assert {order.status_code for order in orders} == {200}
    listed = http.get("/v1/jobs?limit=100")
    assert listed.status_code == 200
    assert {len(job["prompt"]) for job in listed.json()["data"]} == {LISTED_CHARACTERS}
    answer = http.get("/v1/limits")  # one poll and 165 rows, of a bucket that holds eight
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 2


INVALID = [
    (IMAGES, {"json": {"prompt": ""}}),
    (IMAGES, {"json": {"prompt": "fox", **{f"field_{i}": i for i in range(3_000)}}}),
    (IMAGES, {"content": b"x" * 60_000}),
    (IMAGES, {"json": {"prompt": "fox", "model": "other"}}),
    ("/v1/images/edits", {"json": {"prompt": "fox"}}),
    ("/v1/images/edits", {"data": {"prompt": "fox"}, "files": {"other": b"x"}}),
    ("/v1/images/img_none_0/tweaks", {"json": {"strength": 2}}),
]


@pytest.mark.parametrize(("path", "order"), INVALID)
def test_invalid_orders_have_a_limit_and_valid_ones_none(
    http: httpx.Client, path: str, order: dict[str, Any]
) -> None:
    assert [http.post(IMAGES, json={"prompt": "fox"}).status_code for _ in range(3)] == [200] * 3
    answer = refused(http.post(path, **order) for _ in range(20))
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert "invalid orders of your account" in answer.json()["error"]["message"]
    assert answer.headers["retry-after"]
    assert http.post(IMAGES, json={"prompt": "fox"}).status_code == 429  # unread, of this tenant
    others = {"authorization": "Bearer sk-other"}
    assert http.post(IMAGES, json={"prompt": "fox"}, headers=others).status_code == 200
    assert http.get("/v1/jobs").status_code == 200


def test_what_is_refused_for_its_picture_is_no_invalid_order(http: httpx.Client) -> None:
    answers = [http.post(IMAGES, json={"prompt": "unsafe"}) for _ in range(3)]
    assert {answer.json()["error"]["code"] for answer in answers} == {"moderation_blocked"}
    assert http.post(IMAGES, json={"prompt": "fox"}).status_code == 200


def test_the_limit_can_be_edited_while_it_is_reached(running: Stage, http: httpx.Client) -> None:
    refused(http.get("/v1/jobs") for _ in count())
    adopt(running.app, config(limits={**LIMITS, "polls_per_second": 1e9}))
    assert http.get("/v1/jobs").status_code == 200


def test_guessing_keys_is_slow_from_one_address(running: Stage, http: httpx.Client) -> None:
    def guess(number: int, address: str) -> httpx.Response:
        headers = {"authorization": f"Bearer sk-{number}", "x-forwarded-for": address}
        return http.post(IMAGES, json={"prompt": "fox"}, headers=headers)

    answer = refused(guess(number, "1.2.3.4, 198.51.100.7") for number in range(5))
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert guess(6, "5.6.7.8, 198.51.100.7").status_code == 429  # only the nearest address counts
    assert guess(7, "198.51.100.8").status_code == 401
    mine = {"x-forwarded-for": "198.51.100.7"}
    assert http.get("/v1/jobs", headers=mine).status_code == 200  # its owner's key still works


def counting(monkeypatch: pytest.MonkeyPatch, running: Stage, *verbs: str) -> list[str]:
    """The calls of the gateway's ledger, from now on."""
    called: list[str] = []

    def counted(verb: str, ask: Any) -> Any:
        async def asked(*args: Any) -> Any:
            called.append(verb)
            return await ask(*args)

        return asked

    for verb in verbs:
        ask = getattr(running.gateway_ledger, verb)
        monkeypatch.setattr(running.gateway_ledger, verb, counted(verb, ask))
    return called


def test_wrong_keys_from_one_address_hardly_reach_the_ledger(
    running: Stage, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = running.ledger.accounts
    known, unseen = accounts.create("ada", "free"), accounts.create("bob", "free")

    def status(key: str) -> int:
        return http.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code

    assert status(known) == 200
    called = counting(monkeypatch, running, "key_owner", "key_owners")
    with ThreadPoolExecutor(20) as clients:
        guessed = list(clients.map(status, (f"sk-mp-{number}" for number in range(100))))
        assert {*guessed} == {401, 429}
        assert called.count("key_owner") <= 40, "those that came before the first was refused"
        assert called.count("key_owners") <= 40, "the others are looked up together"
        called.clear()
        assert {*clients.map(status, (f"sk-mp-{number}" for number in range(100)))} == {429}
        assert called == [], "a wrong key is looked up once"
    assert status(known) == 200
    assert status(unseen) == 200, "a valid key is not refused because others guess"
    assert called == ["key_owners"]


def test_probes_share_a_look_at_the_ledger(
    running: Stage, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 600.0)
    called = counting(monkeypatch, running, "get")
    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(lambda _: http.get("/readyz").status_code, range(50)))
    assert {*answers} == {200}
    assert len(called) <= 1


def test_an_expired_link_is_told_so_whatever_others_guess(
    running: Stage, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = http.post(IMAGES, json={"prompt": "fox", "response_format": "url"}).json()
    url = order["data"][0]["url"]
    http.headers.pop("authorization")
    monkeypatch.setattr(pictures.time, "time", lambda: 4e9)
    path = "/v1/jobs/none/images/0?expires=9999999999&signature=00"
    called = counting(monkeypatch, running, "get")
    assert {http.get(path).status_code for _ in range(5)} == {403, 429}
    assert called == [], "a forged link is seen to be forged without the ledger"
    assert {http.get(url).status_code for _ in range(5)} == {403}


def test_a_proxy_that_is_not_named_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callers._say_untrusted.cache_clear()
    with stage(tmp_path, config()) as made:
        for number in range(3):
            headers = {"x-forwarded-for": f"192.0.2.{number}"}
            assert httpx.get(f"{made.url}/v1/models", headers=headers).status_code == 401
    said = [record for record in caplog.messages if "gateway.trusted_proxies" in record]
    assert len(said) == 1


def test_guessing_signatures_is_slow_too(http: httpx.Client) -> None:
    path = "/v1/jobs/none/images/0?expires=9999999999&signature=00"
    first, *others = (http.get(path, headers={"authorization": ""}) for _ in range(5))
    assert first.status_code == 403
    assert {answer.status_code for answer in others} == {429}
    assert all(answer.headers["retry-after"] for answer in others)


def test_a_tenant_may_send_a_number_of_small_bodies_at_once(
    running: Stage, http: httpx.Client
) -> None:
    where = urlsplit(running.url)
    head = f"POST {IMAGES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-local\r\n"
    with ExitStack() as stack:
        for _ in range(MOST_SMALL_ARRIVING):
            slow = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            slow.sendall(f"{head}content-length: 40\r\n\r\n{{".encode())
        wait_until(
            lambda: http.post(IMAGES, json={"prompt": "fox"}).status_code == 429, "all have come"
        )
        assert http.post(IMAGES, json={"prompt": "fox"}).json()["error"]["code"] == (
            "too_many_waiting"
        )
        others = {"authorization": "Bearer sk-other"}
        assert http.post(IMAGES, json={"prompt": "fox"}, headers=others).status_code == 200
    wait_until(
        lambda: http.post(IMAGES, json={"prompt": "fox"}).status_code == 200, "all have left"
    )


def test_a_body_that_trickles_in_is_given_up(hasty: Stage) -> None:
    where = urlsplit(hasty.url)
    with socket.create_connection((where.hostname, where.port), timeout=60) as slow:
        head = f"POST {IMAGES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-local\r\n"
        slow.sendall(f"{head}content-length: 40\r\n\r\n{{".encode())
        answer = b""
        while chunk := slow.recv(65_536):  # ends because the gateway closes
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in answer
    assert hasty.jobs() == []


def test_an_async_job_is_answered_before_its_place_is_known(
    running: Stage, http: httpx.Client
) -> None:
    running.worker.pause()
    answer = http.post(IMAGES, json={"prompt": "fox"}, headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    job = running.ledger.get(answer.json()["id"])
    assert job is not None
    assert job.state is JobState.QUEUED
    assert answer.json()["queue_position"] is None


def test_a_gateway_without_room_for_one_more_says_when_to_come_back(
    running: Stage, http: httpx.Client
) -> None:
    full = AdmissionQueue(limit := VegasLimit(), most=0)
    limit.limit = 0
    running.app.state.app_state = replace(running.app.state.app_state, admission_queue=full)
    answer = http.post(IMAGES, json={"prompt": "fox"})
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "too_many_waiting"
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["x-should-retry"] == "true"
    assert running.jobs() == []
