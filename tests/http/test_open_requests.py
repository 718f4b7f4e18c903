"""Streams and waiting orders of one tenant are bounded, before anything is accepted of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from serve_app.admission.cooldown import COOLDOWN, PATH
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import PATIENCE_SECONDS, wait_until

ORDERS = "/v1/images/generations"
ASYNC = {"prefer": "respond-async"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    settings = config(limits={"watchers": 2, "polls_per_second": 1000})
    with stage(tmp_path_factory.mktemp("open"), settings) as made:
        made.worker.pause()
        yield made


@pytest.fixture
def http(running: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=running.url, headers=running.headers, timeout=PATIENCE_SECONDS
    ) as made:
        yield made


def open_here(running: Stage) -> int:
    return len(running.app.state.app_state.open_requests)


def test_streams_and_waits_share_one_bound(running: Stage, http: httpx.Client) -> None:
    job = http.post(ORDERS, json={"prompt": "fox"}, headers=ASYNC).json()
    events = f"/v1/jobs/{job['id']}/events"
    with ExitStack() as stack:
        streams = [stack.enter_context(http.stream("GET", events)) for _ in range(2)]
        texts = [stream.iter_text() for stream in streams]  # one that is dropped closes its stream
        firsts = [next(text) for text in texts]
        assert [first.startswith("event: job\n") for first in firsts] == [True] * 2
        assert firsts[0].split("\n\n")[0] == firsts[1].split("\n\n")[0]
        before = running.rows()
        for wish in ({"stream": True}, {}):
            refused = http.post(ORDERS, json={"prompt": "owl", **wish})
            assert refused.status_code == 429
            error = refused.json()["error"]
            assert (error["type"], error["code"]) == ("requests", "too_many_open")
            assert refused.headers[COOLDOWN].endswith(f" {PATH}")
            assert int(refused.headers["retry-after"]) > 0
        assert http.get(events).json()["error"]["code"] == "too_many_open"
        assert running.rows() == before
        assert http.post(ORDERS, json={"prompt": "owl"}, headers=ASYNC).status_code == 202
        assert http.get(f"/v1/jobs/{job['id']}").status_code == 200
        other = {"authorization": "Bearer sk-other"}
        with http.stream("POST", ORDERS, json={"prompt": "a", "stream": True}, headers=other) as it:
            assert it.status_code == 200
    wait_until(lambda: open_here(running) == 0, "the streams that were left are no longer counted")


def test_an_answered_request_is_no_longer_counted(running: Stage, http: httpx.Client) -> None:
    running.worker.resume()
    for number in range(4):
        assert http.post(ORDERS, json={"prompt": f"fox {number}"}).status_code == 200
        wish = {"prompt": f"fox {number}", "stream": True}
        assert "completed" in http.post(ORDERS, json=wish).text
        assert http.post(ORDERS, json={"prompt": f"unsafe {number}"}).status_code == 400
    wait_until(lambda: open_here(running) == 0, "they have ended")
    running.worker.pause()
