"""Refusals remembered in Serve's proxies: a client that asks again before the time it was told is
answered there, and costs the gateway nothing.

A gateway marks a refusal with the header COOLDOWN: the seconds for which it stands and what it
stands for, `reads` (every GET with this credential) or `path` (the same GET again). The header
never leaves the proxy. Where no such proxy stands before the gateway, the gateway refuses each
request itself.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOLDOWN = "x-meltproof-cooldown"
READS, PATH = "reads", "path"
LONGEST_SECONDS = 10.0
REMEMBERED = 10_000
"""Refusals; the oldest is forgotten first, and then the gateway answers again."""
MOST_BYTES = 4_096
"""Of a refusal's body. A larger one is not remembered."""
_TOO_MANY_REQUESTS = 429

Key = tuple[bytes, bytes]


def cooldown(seconds: float, scope: str) -> dict[str, str]:
    """The header of a refusal that stands for so many seconds."""
    return {COOLDOWN: f"{seconds:.3f} {scope}"}


@dataclass(frozen=True, slots=True)
class _KeptRefusal:
    until: float
    """On the proxy's monotonic clock, in seconds."""
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Cooldown:
    """ASGI middleware around a whole proxy."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._refusals: OrderedDict[Key, _KeptRefusal] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        keys = _keys(scope)
        for key in keys.values():
            refusal = self._refusals.get(key)
            if refusal is not None and refusal.until > self._clock():
                await _answer(scope, send, refusal, refusal.until - self._clock())
                return
        await self._app(scope, receive, _Listener(self, keys, send).send)

    def remember(self, key: Key, seconds: float, start: Message, body: bytes) -> None:
        """Answer requests of this key so until the seconds are over."""
        until = self._clock() + min(seconds, LONGEST_SECONDS)
        self._refusals[key] = _KeptRefusal(until, tuple(start["headers"]), body)
        self._refusals.move_to_end(key)
        if len(self._refusals) > REMEMBERED:
            self._refusals.popitem(last=False)


class _Listener:
    """Passes an answer on, and keeps it if it is a refusal that stands for a while."""

    def __init__(self, owner: Cooldown, keys: dict[str, Key], send: Send) -> None:
        self._owner, self._keys, self._send = owner, keys, send
        self._start: Message | None = None
        self._seconds, self._key = 0.0, (b"", b"")
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        elif self._start is not None:
            self._body += message.get("body", b"")
            if len(self._body) > MOST_BYTES:
                self._start = None
            elif not message.get("more_body", False):
                self._owner.remember(self._key, self._seconds, self._start, self._body)
        await self._send(message)

    def _begin(self, message: Message) -> None:
        headers = MutableHeaders(raw=list(message["headers"]))
        mark = headers.get(COOLDOWN)
        if mark is None:
            return
        del headers[COOLDOWN]
        message["headers"] = headers.raw
        seconds, _, scope = mark.partition(" ")
        if message["status"] == _TOO_MANY_REQUESTS and scope in self._keys:
            self._start, self._seconds, self._key = message, float(seconds), self._keys[scope]


def _keys(scope: Scope) -> dict[str, Key]:
    """What refusals of this request are known by; none for a request that is always passed on.

    A signed URL needs no credential, so a credential that comes with it does not count. Answers
    differ by origin, as far as the lane allows any.
    """
    query, headers = scope.get("query_string", b""), Headers(scope=scope)
    credential = headers.get("authorization")
    if scope["method"] != "GET" or credential is None or b"signature=" in query:
        return {}
    known_by = f"{credential}\n{headers.get('origin', '')}"
    digest = sha256(known_by.encode("latin-1")).digest()
    path = scope.get("raw_path") or scope["path"].encode()
    return {READS: (digest, b""), PATH: (digest, path + b"?" + query)}


async def _answer(scope: Scope, send: Send, refusal: _KeptRefusal, seconds: float) -> None:
    headers = MutableHeaders(raw=list(refusal.headers))
    headers["retry-after"] = str(math.ceil(seconds))
    headers["x-request-id"] = Headers(scope=scope).get("x-request-id") or str(uuid.uuid4())
    start = {"type": "http.response.start", "status": 429, "headers": headers.raw}
    await send(start)
    await send({"type": "http.response.body", "body": refusal.body})
