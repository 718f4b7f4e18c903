"""What clients have been sent and not read yet: bounded, and given up when nobody reads.

A job never waits for its reader. A client that was cut off asks again and gets the state of then.
For gateways and for Serve's proxies, which is where the client's connection may end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

MOST_BYTES = 256 * 2**20
SHARES = 8
"""What is larger than such a share of them gives way first, be it the one that has just come."""
STALL_SECONDS = 30.0
PIECE_BYTES = 64 * 2**10
"""As much as the web server buffers for a connection before `send` waits for the client."""


class ClientStalled(ConnectionError):
    """The client does not read, or not as fast as others need the memory."""


class Outbox:
    """One process's unread answers, as far as they were given to be sent. Over `most_bytes` the
    largest is cut off if it has more than a share, else the one that moved longest ago."""

    def __init__(self, most_bytes: int = MOST_BYTES, stall_seconds: float = STALL_SECONDS) -> None:
        self.most_bytes = most_bytes
        self.stall_seconds = stall_seconds
        self._unread: OrderedDict[asyncio.Timeout, int] = OrderedDict()
        self.bytes = 0

    async def send(self, send: Send, message: Message) -> None:
        """Send one message of an answer, piece by piece. Raises ClientStalled."""
        body = message.get("body", b"")
        if not body:
            await send(message)
            return
        try:
            async with asyncio.timeout(None) as patience:
                self._enter(patience, len(body))
                try:
                    for piece in _pieces(message):
                        self._moves(patience)
                        await send(piece)
                finally:
                    self._drop(patience)
        except TimeoutError:
            raise ClientStalled from None

    def _enter(self, patience: asyncio.Timeout, size_bytes: int) -> None:
        self._unread[patience] = size_bytes
        self.bytes += size_bytes
        while self.bytes > self.most_bytes and len(self._unread) > 1:
            cut = self._to_cut()
            self._drop(cut)
            if not cut.expired():
                cut.reschedule(asyncio.get_running_loop().time())

    def _to_cut(self) -> asyncio.Timeout:
        largest = max(self._unread, key=self._unread.__getitem__)
        if self._unread[largest] > self.most_bytes / SHARES:
            return largest
        return next(iter(self._unread))

    def _drop(self, patience: asyncio.Timeout) -> None:
        self.bytes -= self._unread.pop(patience, 0)

    def _moves(self, patience: asyncio.Timeout) -> None:
        if patience in self._unread and not patience.expired():
            patience.reschedule(asyncio.get_running_loop().time() + self.stall_seconds)
            self._unread.move_to_end(patience)


class CutOff:
    """ASGI middleware: a client that does not read has gone, as far as the app can see."""

    def __init__(self, app: ASGIApp, outbox: Outbox | None = None) -> None:
        self._app = app
        self._outbox = outbox or Outbox()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stalled = asyncio.get_running_loop().create_future()
        heard_all = False

        async def send_on(message: Message) -> None:
            if stalled.done():
                return
            try:
                await self._outbox.send(send, message)
            except ClientStalled:
                log.info("a client does not read %s and is cut off", scope["path"])
                stalled.set_result(None)

        async def hear() -> Message:
            nonlocal heard_all
            if not heard_all:
                message = await receive()
                heard_all = not message.get("more_body", False)
                return message
            hearing = asyncio.ensure_future(receive())
            try:
                await asyncio.wait({hearing, stalled}, return_when=asyncio.FIRST_COMPLETED)
                return hearing.result() if hearing.done() else {"type": "http.disconnect"}
            finally:
                hearing.cancel()

        await self._app(scope, hear, send_on)


def _pieces(message: Message) -> Iterator[Message]:
    """The message in pieces; the last one only when the web server's buffer has room again."""
    body = message.get("body", b"")
    if len(body) <= PIECE_BYTES:
        yield message
        return
    for at in range(0, len(body), PIECE_BYTES):
        yield {**message, "body": body[at : at + PIECE_BYTES], "more_body": True}
    yield {**message, "body": b""}
