"""Answers with pictures, written piece by piece: under a MiB of one is in memory, however large it
is. A picture in one is read from the store as far as its client takes it, and nothing once the
client has gone."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jobs.blobs.store import BlobMissing, BlobStore
from jobs.blobs.threads import in_store

READ_BYTES = 9 * 2**13
"""Of a blob at once; a multiple of three, so that base64 of the pieces is base64 of the whole, and
96 KiB as base64: what Ray sends inline (up to 100 KiB). A larger piece goes through its object
store and holds up both event loops for milliseconds."""
INLINE_BYTES = READ_BYTES - 3 * 2**10
"""A picture as small as this is read when its size is asked for, and sent in one message with the
text around it, which leaves 4 KiB for that: ten are less than a MiB."""
LARGE_BYTES = 8 * 2**20
BURST_BYTES_PER_SECOND = 32 * 2**20
"""Of one tenant even at the beginning: each piece costs the gateway and Serve's proxy several
milliseconds, and other tenants' requests have turns between them."""
AT_ONCE = 4
"""So many large answers of one tenant are written at a time."""
HOLE = secrets.token_hex(16)
"""Stands in JSON where a picture belongs. Never sent, so no client can have it in its words."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A whole blob as a part of an answer."""

    key: str
    blob_bytes: int
    base64: bool

    @property
    def size(self) -> int:
        """In the answer, in bytes."""
        return -(-self.blob_bytes // 3) * 4 if self.base64 else self.blob_bytes


Part = bytes | StoredBlob


def stored(blobs: BlobStore, key: str, *, base64: bool) -> Part:
    """A blob to be written later, or at once what is in a small one. Blocks. Raises BlobMissing."""
    size = blobs.size(key)
    if size > INLINE_BYTES:
        return StoredBlob(key, size, base64)
    data = blobs.get(key)
    return b64encode(data) if base64 else data


def filled(text: bytes, parts: Sequence[Part]) -> list[Part]:
    """JSON with the parts in place of its holes, in their order."""
    before, *texts = text.split(HOLE.encode())
    whole: list[Part] = [before]
    for part, after in zip(parts, texts, strict=True):
        for one in (part, after):
            if isinstance(one, bytes) and isinstance(whole[-1], bytes):
                whole[-1] += one
            else:
                whole.append(one)
    return whole


class Pace:
    """How fast the pictures of one tenant are written, over all of its answers: what it asks for
    at once takes longer, and the gateway's time stays there for others. For one event loop."""

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self._due_at = float("-inf")
        self._next_at = float("-inf")

    async def keep(self, size_bytes: int) -> None:
        """Before so much more is written; the first LARGE_BYTES wait only for one another."""
        now = asyncio.get_running_loop().time()
        burst_seconds = LARGE_BYTES / self.bytes_per_second
        due_at = max(self._due_at, now - burst_seconds) + size_bytes / self.bytes_per_second
        next_at = max(self._next_at, now)
        self._due_at = due_at
        self._next_at = next_at + size_bytes / max(BURST_BYTES_PER_SECOND, self.bytes_per_second)
        await asyncio.sleep(max(due_at, next_at) - now)


class Pieces:
    """An answer, or an event of one, at its tenant's pace. `size`: in bytes, known beforehand."""

    def __init__(self, blobs: BlobStore, parts: Sequence[Part], pace: Pace) -> None:
        self._blobs = blobs
        self._parts = parts
        self._pace = pace
        self._asked_bytes = max(1, blobs.round_trip_bytes // READ_BYTES) * READ_BYTES
        self.size = sum(part.size if isinstance(part, StoredBlob) else len(part) for part in parts)

    @property
    def text(self) -> bytes | None:
        """All of it, where nothing is left in the store."""
        return b"".join(texts) if len(texts := self._texts()) == len(self._parts) else None

    def _texts(self) -> list[bytes]:
        return [part for part in self._parts if isinstance(part, bytes)]

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Its bytes in order. Raises BlobMissing for a blob that has been deleted since."""
        for part in self._parts:
            if isinstance(part, StoredBlob):
                for offset in range(0, part.blob_bytes, self._asked_bytes):
                    data = await in_store(self._read, part, offset)
                    for start in range(0, len(data), READ_BYTES):
                        piece = data[start : start + READ_BYTES]
                        sent = b64encode(piece) if part.base64 else piece
                        await self._pace.keep(len(sent))
                        yield sent
            elif part:
                yield part

    def _read(self, part: StoredBlob, offset: int) -> bytes:
        length = min(self._asked_bytes, part.blob_bytes - offset)
        data = self._blobs.read(part.key, offset, length)
        if len(data) != length:
            raise BlobMissing(part.key)
        return data


class LargeAnswers:
    """A few of each tenant are written at a time; the others of that tenant wait for them, with
    nothing in memory. For one event loop."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._paces: WeakValueDictionary[str, Pace] = WeakValueDictionary()

    def pace(self, tenant: str, bytes_per_second: float) -> Pace:
        """Shared by all answers to the tenant that are being written."""
        pace = self._paces.setdefault(tenant, Pace(bytes_per_second))
        pace.bytes_per_second = bytes_per_second
        return pace

    @asynccontextmanager
    async def turn(self, tenant: str, size_bytes: int) -> AsyncGenerator[None]:
        """While so much is written to that tenant's client."""
        if size_bytes <= LARGE_BYTES:
            yield
            return
        turns = self._turns.setdefault(tenant, asyncio.Semaphore(self._at_once))
        async with turns:
            yield


def pieces_response(
    pieces: Pieces,
    turn: AbstractAsyncContextManager[None],
    headers: dict[str, str],
    media_type: str,
) -> Response:
    """The answer, written when it is the tenant's turn."""
    if (text := pieces.text) is not None:
        return Response(text, 200, headers, media_type)
    return PiecesResponse(pieces, turn, headers, media_type)


class PiecesResponse(Response):
    """An answer in pieces, of known length, as long as its client is there."""

    def __init__(
        self,
        pieces: Pieces,
        turn: AbstractAsyncContextManager[None],
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        self._pieces = pieces
        self._turn = turn
        super().__init__(None, 200, headers, media_type)
        self.headers["content-length"] = str(pieces.size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; what is to be done behind it is done once all was sent."""
        sent = await unless_gone(self._send(send, scope["method"] == "HEAD"), receive)
        if sent and self.background is not None:
            await self.background()

    async def _send(self, send: Send, head_only: bool) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if head_only:
            await send(start)
        else:
            async with self._turn, aclosing(self._pieces.chunks()) as chunks:
                await send(start)
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def disconnected(receive: Receive) -> None:
    """Returns once the client has gone. The request body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_gone(sending: Coroutine[Any, Any, None], receive: Receive) -> bool:
    """Send beside listening for the client to go: whether all was sent. Raises what `sending`
    does."""
    sends = asyncio.ensure_future(sending)
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({sends, gone}, return_when=asyncio.FIRST_COMPLETED)
        if sends.done():
            sends.result()
            return True
        return False
    finally:
        await cancel(gone)
        await cancel(sends)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel and wait, keeping our own cancellation apart from the task's."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # seen: it was reported where the task was awaited, or no longer matters
