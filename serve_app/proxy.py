"""What runs inside Serve's HTTP proxies: a gateway that dies costs its requests a second try.

Serve sends no answer to requests whose replica has died, and the server below makes it a 500. Here
the request goes to another gateway instead, once, and marked as a retry, so that it finds the job
that the dead one may have accepted. Serve calls `middlewares` in every proxy.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.access.connections import use_for_every_server
from serve_app.admission.cooldown import Cooldown
from serve_app.delivery.slow_clients import SlowClientProtection

TRIES = 2
"""Not more: a request that kills the gateway that reads it must not go round."""
PAUSE_SECONDS = 0.2
KEPT_BYTES = 65_536
"""A larger body is not kept for a second try; its client tries again."""
_RETRY_COUNT = b"x-stainless-retry-count"
_FOR_PROXIES = frozenset({b"x-request-timeout-seconds", b"x-request-disconnect-disabled"})
"""Serve would let any client override its timeout and its care for lost connections."""
_UNAVAILABLE = {
    "message": "The server that had this request is gone. Nothing that was accepted is lost.",
    "type": "server_error",
    "param": None,
    "code": "gateway_lost",
}


def middlewares() -> list[Middleware]:
    """As Serve wants them, just before it starts the server around them."""
    use_for_every_server()
    return [Middleware(SlowClientProtection), Middleware(RetryOnce), Middleware(Cooldown)]


class RetryOnce:
    """ASGI middleware around a whole proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises what the proxy raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        for number in range(TRIES):
            answer = _Answer(send)
            await self._app(_asked(scope, number), body.receive, answer.send)
            if answer.begun:
                return
            if not body.rewind():
                break
            await asyncio.sleep(PAUSE_SECONDS)
        await _answer_unavailable(send)


class _Body:
    """What the client sends, remembered as far as it is small."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead: deque[Message] = deque()
        self._kept: list[Message] = []
        self._room = KEPT_BYTES

    async def receive(self) -> Message:
        message = self._ahead.popleft() if self._ahead else await self._receive()
        self._room -= len(message.get("body", b""))
        if message["type"] == "http.disconnect":
            self._room = -1
        if self._room >= 0:
            self._kept.append(message)
        else:
            self._kept.clear()
        return message

    def rewind(self) -> bool:
        """Begin anew; False when that cannot be done, or the client has disconnected."""
        self._ahead.extendleft(reversed(self._kept))
        self._kept.clear()
        again, self._room = self._room >= 0, KEPT_BYTES
        return again


class _Answer:
    """A gateway's answer; `begun` stays False when it dies before it has sent any of it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def send(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


def _asked(scope: Scope, number: int) -> Scope:
    """The request for the `number`-th time, 0 for the first: a scope of its own, since the proxy
    writes into it."""
    headers = [(name, value) for name, value in scope["headers"] if name not in _FOR_PROXIES]
    if number:
        sent = Headers(raw=headers).get(_RETRY_COUNT.decode(), "0")
        count = int(sent) if sent.isascii() and sent.isdigit() else 0
        headers = [(name, value) for name, value in headers if name != _RETRY_COUNT]
        headers.append((_RETRY_COUNT, str(min(count + number, 9999)).encode()))
    return {**scope, "headers": headers}


async def _answer_unavailable(send: Send) -> None:
    body = json.dumps({"error": _UNAVAILABLE}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", b"1"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
