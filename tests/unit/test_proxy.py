"""What Serve's proxies do with a request whose gateway dies, without Serve."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve_app import proxy
from serve_app.proxy import KEPT_BYTES, RetryOnce

JSON = [(b"content-type", b"application/json")]
PLAIN = [(b"content-type", b"text/plain; charset=utf-8")]
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


class Gateways:
    """Answers one after the other, and keeps what was asked."""

    def __init__(self, *answers: Answer | None) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[dict[bytes, bytes], bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.asked.append((dict(scope["headers"]), body))
        scope["path"] = "/rewritten"
        answer = self._answers.pop(0)
        if answer is None:
            return
        status, headers, content = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def ask(app: RetryOnce, *parts: bytes, headers: Any = (), leave: bool = False) -> Answer:
    """POST a body in these parts."""
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    if leave:
        messages[-1] = {"type": "http.disconnect"}
    said: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        said.append(message)

    scope = {"type": "http", "path": "/v1/images/generations", "headers": list(headers)}
    await app(scope, receive, send)
    assert scope["path"] == "/v1/images/generations"
    starts = [message for message in said if message["type"] == "http.response.start"]
    assert len(starts) == 1
    body = b"".join(message.get("body", b"") for message in said)
    return starts[0]["status"], starts[0]["headers"], body


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "PAUSE_SECONDS", 0.0)


DIED = None  # Serve's proxy returns without a word
DRAWN: Answer = (200, JSON, b"{}")


async def test_a_request_whose_gateway_died_is_put_to_another_one_as_a_retry() -> None:
    gateways = Gateways(DIED, DRAWN)
    assert await ask(RetryOnce(gateways), b'{"prompt": ', b'"a fox"}') == DRAWN
    (first, body), (second, again) = gateways.asked
    assert body == again == b'{"prompt": "a fox"}'
    assert b"x-stainless-retry-count" not in first
    assert second[b"x-stainless-retry-count"] == b"1"


async def test_a_clients_own_retries_are_counted_on() -> None:
    gateways = Gateways(DIED, DRAWN)
    await ask(RetryOnce(gateways), b"{}", headers=[(b"x-stainless-retry-count", b"2")])
    assert [asked[b"x-stainless-retry-count"] for asked, _ in gateways.asked] == [b"2", b"3"]


def too_large() -> dict[str, Any]:
    return {"parts": (b"x" * KEPT_BYTES, b"x"), "leave": False}


def gone() -> dict[str, Any]:
    return {"parts": (b"x", b""), "leave": True}


@pytest.mark.parametrize("client", [too_large, gone])
async def test_what_cannot_be_asked_again_is_told_to_try_again(
    client: Callable[[], dict[str, Any]],
) -> None:
    asked = client()
    gateways = Gateways(DIED, DRAWN)
    answer = await ask(RetryOnce(gateways), *asked["parts"], leave=asked["leave"])
    assert len(gateways.asked) == 1
    check_unavailable(answer)


async def test_a_request_that_kills_every_gateway_goes_round_no_more_than_twice() -> None:
    gateways = Gateways(DIED, DIED, DIED)
    check_unavailable(await ask(RetryOnce(gateways), b"{}"))
    assert len(gateways.asked) == 2


def check_unavailable(answer: Answer) -> None:
    status, headers, body = answer
    assert status == 503
    assert dict(headers)[b"retry-after"] == b"1"
    assert json.loads(body)["error"]["code"] == "gateway_lost"


@pytest.mark.parametrize("answer", [DRAWN, (500, JSON, b'{"error": {}}'), (404, PLAIN, b"no")])
async def test_what_a_gateway_says_goes_through(answer: Answer) -> None:
    gateways = Gateways(answer)
    assert await ask(RetryOnce(gateways), b"{}") == answer


async def test_clients_cannot_turn_the_proxys_own_knobs() -> None:
    gateways = Gateways(DRAWN)
    knobs = [(b"x-request-timeout-seconds", b"0.01"), (b"x-request-disconnect-disabled", b"1")]
    await ask(RetryOnce(gateways), b"{}", headers=[*knobs, (b"accept", b"*/*")])
    assert gateways.asked[0][0] == {b"accept": b"*/*"}
