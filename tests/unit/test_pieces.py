"""Answers in pieces: the same bytes as whole ones, a few large ones of a tenant at a time."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from starlette.types import Message

from jobs.blobs.store import BlobMissing, DirectoryBlobs
from jobs.blobs.threads import AT_ONCE as AT_ONCE_IN_STORES
from serve_app.delivery.pieces import (
    AT_ONCE,
    BURST_BYTES_PER_SECOND,
    HOLE,
    INLINE_BYTES,
    LARGE_BYTES,
    READ_BYTES,
    LargeAnswers,
    Pace,
    Pieces,
    filled,
    pieces_response,
    stored,
)
from serve_app.delivery.sse import Event, EventStream, TornEvent, frame

QUICK = Pace(1e15)
SIZES = (0, 1, INLINE_BYTES, INLINE_BYTES + 1, READ_BYTES, READ_BYTES + 1, 2 * READ_BYTES + 2)


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path)


async def test_a_tenants_answers_share_a_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    large = LargeAnswers()
    pace = large.pace("a", LARGE_BYTES)
    assert large.pace("a", LARGE_BYTES) is pace
    await pace.keep(LARGE_BYTES)
    await large.pace("a", LARGE_BYTES).keep(3 * LARGE_BYTES)
    await large.pace("b", LARGE_BYTES).keep(LARGE_BYTES)
    assert slept == pytest.approx([0.0, 3.0, 0.0], abs=0.5)


async def test_the_first_pieces_leave_turns_to_other_tenants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pace = LargeAnswers().pace("a", LARGE_BYTES)
    for _ in range(4):
        await pace.keep(BURST_BYTES_PER_SECOND // 40)
    assert slept == pytest.approx([0.0, 0.025, 0.05, 0.075], abs=0.02)


async def test_the_pieces_are_the_whole_and_small(blobs: DirectoryBlobs) -> None:
    pictures = [os.urandom(size) for size in SIZES]
    for number, data in enumerate(pictures):
        blobs.put(f"p/{number}", data, durable=False)
    parts = [stored(blobs, f"p/{number}", base64=True) for number in range(len(SIZES))]
    pieces = Pieces(blobs, filled(json.dumps([HOLE] * len(SIZES)).encode(), parts), QUICK)
    chunks = [chunk async for chunk in pieces.chunks()]
    assert max(map(len, chunks)) <= READ_BYTES * 4 // 3
    whole = b"".join(chunks)
    assert len(whole) == pieces.size
    assert [base64.b64decode(one) for one in json.loads(whole)] == pictures


@pytest.mark.parametrize("size", SIZES)
async def test_a_picture_itself_is_written_as_it_is(blobs: DirectoryBlobs, size: int) -> None:
    data = os.urandom(size)
    blobs.put("a", data, durable=False)
    pieces = Pieces(blobs, [stored(blobs, "a", base64=False)], QUICK)
    assert b"".join([chunk async for chunk in pieces.chunks()]) == data
    assert pieces.size == size
    assert pieces.text == (data if size <= INLINE_BYTES else None)


def test_a_missing_one_is_noticed_before_anything_is_written(blobs: DirectoryBlobs) -> None:
    with pytest.raises(BlobMissing):
        stored(blobs, "a", base64=True)


async def test_few_large_answers_of_one_tenant_at_a_time() -> None:
    large, inside, go_on = LargeAnswers(), list[str](), asyncio.Event()

    async def write(tenant: str, size: int) -> None:
        async with large.turn(tenant, size):
            inside.append(f"{tenant} {size > LARGE_BYTES}")
            await go_on.wait()

    sizes = [LARGE_BYTES + 1] * (AT_ONCE + 3) + [LARGE_BYTES] * 2
    writing = [asyncio.create_task(write("a", size)) for size in sizes]
    writing.append(asyncio.create_task(write("b", LARGE_BYTES + 1)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert sorted(inside) == ["a False"] * 2 + ["a True"] * AT_ONCE + ["b True"]
    go_on.set()
    await asyncio.gather(*writing)
    assert len(inside) == len(writing)


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_client_that_goes_is_read_no_more_for(blobs: DirectoryBlobs) -> None:
    blobs.put("a", os.urandom(8 * READ_BYTES), durable=False)
    pieces = Pieces(blobs, [stored(blobs, "a", base64=False)], QUICK)
    gone, sent = asyncio.Event(), list[Message]()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("body"):
            gone.set()
            await asyncio.sleep(0)

    response = pieces_response(pieces, LargeAnswers().turn("a", pieces.size), {}, "image/png")
    await response({"type": "http", "method": "GET"}, receive, send)
    assert sent[-1]["more_body"]
    assert len(sent) < 8


async def test_a_head_has_the_length_and_no_body(blobs: DirectoryBlobs) -> None:
    blobs.put("a", os.urandom(READ_BYTES), durable=False)
    pieces = Pieces(blobs, [stored(blobs, "a", base64=False)], QUICK)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    response = pieces_response(pieces, LargeAnswers().turn("a", pieces.size), {}, "image/png")
    await response({"type": "http", "method": "HEAD"}, never, send)
    assert dict(sent[0]["headers"])[b"content-length"] == str(READ_BYTES).encode()
    assert [message.get("body") for message in sent] == [None, b""]


class SlowBlobs(DirectoryBlobs):
    """Each read takes longer than a keep-alive waits; the last one finds nothing if `lost`."""

    lost = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._slowly = threading.Event()

    def read(self, key: str, offset: int, length: int) -> bytes:
        """See BlobStore."""
        self._slowly.wait(0.02)
        return b"" if self.lost and offset else super().read(key, offset, length)


async def streamed(blobs: DirectoryBlobs) -> list[Message]:
    data = os.urandom(3 * READ_BYTES)
    blobs.put("a", data, durable=False)

    async def events() -> AsyncGenerator[Event]:
        text = frame({"b64_json": HOLE}, "completed")
        yield Pieces(blobs, filled(text, [stored(blobs, "a", base64=True)]), QUICK)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await EventStream(events(), 0.001)({"type": "http"}, never, send)
    finally:
        body = b"".join(message.get("body", b"") for message in sent)
        assert b"keep-alive" not in body[body.find(b"event:") :]
    return sent


async def test_no_comment_falls_into_an_event(tmp_path: Path) -> None:
    sent = await streamed(SlowBlobs(tmp_path))
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_torn_event_ends_the_connection(tmp_path: Path) -> None:
    blobs = SlowBlobs(tmp_path)
    blobs.lost = True
    with pytest.raises(TornEvent):
        await streamed(blobs)


async def test_a_store_that_hangs_holds_up_no_other_work(tmp_path: Path) -> None:
    """More calls than it has threads."""
    back = threading.Event()

    class Hangs(DirectoryBlobs):
        def read(self, key: str, offset: int, length: int) -> bytes:
            back.wait()
            return super().read(key, offset, length)

    blobs = Hangs(tmp_path)
    data = os.urandom(INLINE_BYTES + 1)
    blobs.put("p/1", data, durable=False)
    part = stored(blobs, "p/1", base64=False)

    async def read() -> bytes:
        return b"".join([chunk async for chunk in Pieces(blobs, [part], QUICK).chunks()])

    reads = [asyncio.create_task(read()) for _ in range(3 * AT_ONCE_IN_STORES)]
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(lambda: "done") == "done"
    back.set()
    assert await asyncio.gather(*reads) == [data] * len(reads)
