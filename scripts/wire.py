"""The HTTP client of every load: raw HTTP/1.1 over kept-alive sockets.

The generator shares its processors with what it measures; a full client library would cost more
of them than the gateway itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
JSON = "content-type: application/json\r\n"
ASYNC = f"prefer: respond-async\r\n{JSON}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. status: HTTP's, 0 when the connection broke before it. headers: by lower name."""

    status: int
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header's value, empty when there is none."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    def json(self) -> Any:
        """The body. ValueError when it is no JSON."""
        return json.loads(self.body)


BROKEN = Reply(0)


class Client:
    """Sends requests to one server on this machine, each on an idle connection or a new one."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._head = f"host: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
        self._idle: list[_Connection] = []

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: str = "", seconds: float = 60.0
    ) -> Reply:
        """The whole answer; BROKEN when there was none within the time. `headers`: further lines,
        each with its line end."""
        line = f"{method} {self._prefix}{path} HTTP/1.1\r\n"
        head = f"{line}{self._head}content-length: {len(body)}\r\n{headers}"
        try:
            connection = await self._connection()
        except OSError:
            return BROKEN
        reply = connection.ask(f"{head}\r\n".encode() + body)
        try:
            async with asyncio.timeout(seconds):
                answer = await reply
        except TimeoutError:
            connection.abort()
            return BROKEN
        except asyncio.CancelledError:
            connection.abort()
            raise
        if connection.usable:
            self._idle.append(connection)
        return answer

    async def stream(self, path: str, body: bytes, on_head: Callable[[int, str], None]) -> None:
        """POST, say the status and `x-job-id` when they come, then read until the end."""
        head = f"{self._head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            connection = await self._opened()
        except OSError:
            return
        connection.on_head = on_head
        try:
            request = f"POST {self._prefix}{path} HTTP/1.1\r\n{head}"
            await connection.ask(request.encode() + body)
        finally:
            connection.abort()

    def close(self) -> None:
        """Drop the idle connections."""
        while self._idle:
            self._idle.pop().abort()

    async def _connection(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
        return await self._opened()

    async def _opened(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection


class _Connection(asyncio.Protocol):
    """One request at a time. on_head: told the status and `x-job-id` before the body comes."""

    def __init__(self) -> None:
        self.usable = False
        self.on_head: Callable[[int, str], None] = lambda status, job_id: None
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        assert self._transport is not None
        self._parser = HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def abort(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.usable = transport, True

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        self._end(BROKEN)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """What httptools calls, as the next three."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        job_id = self._headers.get(b"x-job-id", b"").decode("latin-1")
        self.on_head(self._parser.get_status_code(), job_id)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._end(Reply(self._parser.get_status_code(), self._headers, b"".join(self._body)))

    def _end(self, reply: Reply) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(reply)
