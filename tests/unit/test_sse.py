"""Framing, keep-alive, and what happens to a stream whose client goes or whose source fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from jobs.ledger_errors import LedgerUnavailable
from serve_app.delivery.sse import KEEPALIVE, EventStream, frame, with_keepalive


def test_a_frame_is_one_data_line_whatever_the_text_holds() -> None:
    raw = frame({"text": "a\nb\r\n\u2028\ud83e\udd8a"}, "job", "0.5").decode()
    head, data, *rest = raw.split("\n")[1:]
    assert raw.startswith("event: job\n")
    assert head == "id: 0.5"
    assert json.loads(data.removeprefix("data: "))["text"].startswith("a\nb")
    assert rest == ["", ""]


async def test_silence_is_filled_with_comments_and_no_event_is_lost() -> None:
    speak = asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        await speak.wait()
        yield b"one"
        yield b"two"

    chunks = with_keepalive(source(), 0.001)
    assert await anext(chunks) == KEEPALIVE
    assert await anext(chunks) == KEEPALIVE
    speak.set()
    assert [chunk async for chunk in chunks if chunk != KEEPALIVE] == [b"one", b"two"]


async def test_a_client_that_goes_closes_the_source() -> None:
    closed = asyncio.Event()
    started = asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        try:
            yield b"one"
            started.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def receive() -> Message:
        await started.wait()
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await EventStream(source(), 10)({"type": "http"}, receive, send)
    assert closed.is_set()
    assert [message.get("body") for message in sent] == [None, b"one"]
    headers = dict(sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"cache-control"] == b"no-store"


async def test_a_failing_source_ends_the_stream_with_the_envelope(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def source() -> AsyncGenerator[bytes]:
        yield b"one"
        raise LedgerUnavailable("gone")

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await EventStream(source(), 10)({"type": "http"}, receive, send)
    last = sent[-2]["body"].decode()
    assert last.startswith("event: error\n")
    error = json.loads(last.split("data: ")[1])["error"]
    assert error["code"] == "ledger_unavailable"
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert "an event stream failed" in caplog.text
