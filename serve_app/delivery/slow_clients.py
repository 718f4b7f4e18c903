"""Slow-client protection: what is sent and unread is bounded, and a stalled client is cut off.

A job never waits for its client. One that was cut off asks again and gets the state of then. For
gateways and for Serve's proxies, which is where the client's connection may end.
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
"""An answer larger than such a share is cut off first, be it the newest."""
STALL_SECONDS = 30.0
PIECE_BYTES = 64 * 2**10
"""As much as the web server buffers for a connection before `send` waits for the client."""


class ClientStalled(ConnectionError):
    """The client reads nothing, or more slowly than other answers need the memory."""


class SendBudget:
    """Bytes that one process was given to send and its clients have not read. Over `most_bytes` the
    largest answer is cut off if it has more than a share, else the one stalled for longest."""

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
                        self._progressed(patience)
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

    def _progressed(self, patience: asyncio.Timeout) -> None:
        if patience in self._unread and not patience.expired():
            patience.reschedule(asyncio.get_running_loop().time() + self.stall_seconds)
            self._unread.move_to_end(patience)


class SlowClientProtection:
    """ASGI middleware: to the application, a client that does not read has disconnected."""

    def __init__(self, app: ASGIApp, budget: SendBudget | None = None) -> None:
        self._app = app
        self._budget = budget or SendBudget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stalled = asyncio.get_running_loop().create_future()
        body_received = False

        async def send_on(message: Message) -> None:
            if stalled.done():
                return
            try:
                await self._budget.send(send, message)
            except ClientStalled:
                log.info("a client does not read %s and is cut off", scope["path"])
                stalled.set_result(None)

        async def receive_on() -> Message:
            nonlocal body_received
            if not body_received:
                message = await receive()
                body_received = not message.get("more_body", False)
                return message
            receiving = asyncio.ensure_future(receive())
            try:
                await asyncio.wait({receiving, stalled}, return_when=asyncio.FIRST_COMPLETED)
                return receiving.result() if receiving.done() else {"type": "http.disconnect"}
            finally:
                receiving.cancel()

        await self._app(scope, receive_on, send_on)


def _pieces(message: Message) -> Iterator[Message]:
    """The message in pieces; the last one only when the web server's buffer has room again."""
    body = message.get("body", b"")
    if len(body) <= PIECE_BYTES:
        yield message
        return
    for at in range(0, len(body), PIECE_BYTES):
        yield {**message, "body": body[at : at + PIECE_BYTES], "more_body": True}
    yield {**message, "body": b""}
