"""The HTTP client of every load: raw HTTP/1.1 over kept-alive sockets.

The generator shares its processors with what it measures; a full client library would cost more
of them than the gateway itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
JSON = "content-type: application/json\r\n"
ASYNC = f"prefer: respond-async\r\n{JSON}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. status: HTTP's, 0 when the connection broke before it."""

    status: int
    headers: bytes = b""
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header's value, empty when there is none."""
        for line in self.headers.split(b"\r\n"):
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.encode():
                return value.strip().decode("latin-1")
        return ""

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
        try:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            return
        try:
            close = f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(
                f"POST {self._prefix}{path} HTTP/1.1\r\n{self._head}{close}".encode() + body
            )
            head = Reply(0, await reader.readuntil(b"\r\n\r\n"))
            on_head(int(head.headers[9:12]), head.header("x-job-id"))
            while await reader.read(1 << 16):
                pass
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.transport.abort()

    def close(self) -> None:
        """Drop the idle connections."""
        while self._idle:
            self._idle.pop().abort()

    async def _connection(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self.usable = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._received = bytearray()
        self._body_from, self._length = 0, -1  # where the body begins, how long it is

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        assert self._transport is not None
        self._received.clear()
        self._body_from, self._length = 0, -1
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
        self._received += data
        if not self._body_from and (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._body_from = end + 4
            head = bytes(self._received[:end]).lower()
            at = head.find(b"\r\ncontent-length:")
            self._length = -1 if at < 0 else int(head[at + 17 :].split(b"\r\n", 1)[0])
        if not self._body_from:
            return
        come = len(self._received) - self._body_from
        # Not before it is whole is it looked at: a large answer comes in thousands of pieces.
        if come >= self._length if self._length >= 0 else self._received.endswith(b"0\r\n\r\n"):
            head = bytes(self._received[: self._body_from])
            body = bytes(self._received[self._body_from :])
            body = body if self._length >= 0 else _joined(body)
            self._end(Reply(int(head[9:12]), head, body))

    def _end(self, reply: Reply) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(reply)


def _joined(chunks: bytes) -> bytes:
    """The body that came in chunks."""
    found, at = bytearray(), 0
    while (end := chunks.find(b"\r\n", at)) >= 0 and (size := int(chunks[at:end], 16)):
        found += chunks[end + 2 : end + 2 + size]
        at = end + 4 + size
    return bytes(found)
