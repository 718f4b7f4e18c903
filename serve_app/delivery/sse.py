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

from jobs.blobs.store import BlobMissing, StoreUnavailable
from serve_app.delivery.pieces import Pieces, cancel, unless_gone
from serve_app.wire.domain_errors import from_domain

log = logging.getLogger(__name__)

Event = bytes | Pieces
"""Encoded; one with a picture is written in pieces, and nothing comes between them."""
KEEPALIVE = b": keep-alive\n\n"


def frame(data: Mapping[str, Any], name: str | None = None, event_id: str | None = None) -> bytes:
    """One event. JSON never holds a bare line break, so one `data:` line is enough."""
    head = f"event: {name}\n" if name else ""
    if event_id is not None:
        head += f"id: {event_id}\n"
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def with_keepalive(events: AsyncGenerator[Event], seconds: float) -> AsyncGenerator[Event]:
    """The events, and a comment whenever none came for `seconds`, so that proxies stay awake."""
    pending: asyncio.Task[Event | None] | None = None
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
            await cancel(pending)
        await events.aclose()


class EventStream(Response):
    """Sends events until they end or the client goes; either way the generator is closed."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[Event],
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
        await unless_gone(self._send(send), receive)

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        async with aclosing(with_keepalive(self._events, self._keepalive_seconds)) as events:
            await send(start)
            try:
                async for event in events:
                    await _send_event(send, event)
            except TornEvent:
                raise  # inside an event nothing else can be said: the connection ends
            except Exception as error:
                log.exception("an event stream failed")
                last = frame(from_domain(error).envelope(), "error")
                await send({"type": "http.response.body", "body": last, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class TornEvent(Exception):
    """An event could not be written to its end."""


async def _send_event(send: Send, event: Event) -> None:
    """Raises TornEvent."""
    if isinstance(event, bytes):
        await send({"type": "http.response.body", "body": event, "more_body": True})
        return
    try:
        async with aclosing(event.chunks()) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (BlobMissing, StoreUnavailable) as error:
        raise TornEvent from error


async def _next(events: AsyncGenerator[Event]) -> Event | None:
    return await anext(events, None)
