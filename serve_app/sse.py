"""Server-sent events: framing, keep-alive comments, and a response that notices a lost client."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve_app.errors import from_domain

log = logging.getLogger(__name__)

KEEPALIVE = b": keep-alive\n\n"


def frame(data: Mapping[str, Any], name: str | None = None, event_id: str | None = None) -> bytes:
    """One event. JSON never holds a bare line break, so one `data:` line is enough."""
    head = f"event: {name}\n" if name else ""
    if event_id is not None:
        head += f"id: {event_id}\n"
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def with_keepalive(events: AsyncGenerator[bytes], seconds: float) -> AsyncGenerator[bytes]:
    """The events, and a comment whenever none came for `seconds`, so that proxies stay awake."""
    pending: asyncio.Task[bytes | None] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.ensure_future(_next(events))
            done, _ = await asyncio.wait({pending}, timeout=seconds)
            if not done:
                yield KEEPALIVE
                continue
            chunk, pending = pending.result(), None
            if chunk is None:
                return
            yield chunk
    finally:
        if pending is not None:
            await _cancel(pending)
        await events.aclose()


async def disconnected(receive: Receive) -> None:
    """Returns once the client has gone. The request body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Sends events until they end or the client goes; either way the generator is closed."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        keepalive_seconds: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._events = events
        self._keepalive_seconds = keepalive_seconds
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        self.headers.update(headers or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream beside listening for the client to go."""
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            await _cancel(gone)
            await _cancel(sending)

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(with_keepalive(self._events, self._keepalive_seconds)) as chunks:
            await send(start)
            try:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except Exception as error:
                log.exception("an event stream failed")
                last = frame(from_domain(error).envelope(), "error")
                await send({"type": "http.response.body", "body": last, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _next(events: AsyncGenerator[bytes]) -> bytes | None:
    return await anext(events, None)


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel and wait, keeping our own cancellation apart from the task's."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: it was reported where the task was awaited, or no longer matters
