"""Pictures that clients send: made plain in a process of its own, and stored. One per gateway.

What waits for it is on disk or not yet read; only what is inside is held in memory.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from dispatch.identity import Identity
from engine.intake import Canvas, Intake, Kept, Normalised, Reference, Refused
from engine.provenance.checks import Checked, Checks
from jobs.blobs.store import BlobStore
from jobs.blobs.threads import in_store
from jobs.client.async_ledger import AsyncFileTable
from jobs.files import INPUT, UNLIMITED, VISION, FileRoom, StoredFile, input_key, new_file_id
from serve_app.admission.queue import AdmissionQueue, FixedLimit
from serve_app.wire.errors import InvalidRequest, TooManyWaiting, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

INSIDE = 2
"""Requests whose pictures are decoded or stored, never two of one tenant: a picture may take the
decoder seconds, and then the other tenants have a decoder left."""
MOST_WAITING = 200
MOST_SMALL_ARRIVING = 128
"""Small bodies of one tenant at a time. They are held in memory, and mostly arrive at once."""
MOST_ARRIVING = 32
"""Large bodies of one tenant at a time; beyond, the disk would be its alone. Fewer when there
is not as much room left for others."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What a tenant keeps."""

    filename: str
    sent_bytes: int
    """Count for it, unless what is kept is more."""
    room: FileRoom
    """For all of the tenant's files."""


class Inputs:
    """Starts its processes with the first picture; close it."""

    def __init__(self, ledger: AsyncFileTable, blobs: BlobStore) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._queue = AdmissionQueue(FixedLimit(INSIDE), MOST_WAITING)
        self._arriving: Counter[str] = Counter()
        self._small: Counter[str] = Counter()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._starting = threading.Lock()
        self._intake: Intake | None = None
        self._checks: Checks | None = None

    @asynccontextmanager
    async def arriving(self, tenant: str, large: bool) -> AsyncGenerator[None]:
        """While a body comes in and waits for its turn. Raises TooManyWaiting."""
        arriving = self._arriving if large else self._small
        most = min(MOST_ARRIVING, MOST_WAITING - arriving.total()) if large else MOST_SMALL_ARRIVING
        if arriving[tenant] >= most:
            raise TooManyWaiting
        arriving[tenant] += 1
        try:
            yield
        finally:
            arriving[tenant] -= 1
            if not arriving[tenant]:
                del arriving[tenant]

    @asynccontextmanager
    async def turn(self, tenant: str, weight: float) -> AsyncGenerator[None]:
        """Inside, when it is the tenant's turn to have its pictures read. Raises TooManyWaiting."""
        first = self._turns.setdefault(tenant, asyncio.Lock())
        async with first, self._queue.turn(tenant, weight, 0):
            yield

    async def normalise(self, data: bytes, param: str) -> Normalised:
        """One picture, plain. Raises InvalidRequest that names `param`."""
        return await _unless_refused(lambda: self._running().normalise(data), {"image": param})

    async def keep(self, data: bytes, param: str) -> Kept:
        """One picture in a compact form. Raises InvalidRequest that names `param`."""
        return await _unless_refused(lambda: self._running().keep(data), {"image": param})

    async def check(self, data: bytes, param: str, identity: Identity) -> Checked:
        """Where a picture says it is from. Raises InvalidRequest that names `param`."""
        ask = partial(Checks.check, data=data, keys=identity.keys, anchors=identity.anchors)
        return await _unless_refused(lambda: ask(self._checking()), {"image": param})

    async def canvas(
        self,
        files: Mapping[str, bytes],
        params: Mapping[str, str],
        *,
        size: tuple[int, int],
        small_size: tuple[int, int],
        grid: tuple[int, int],
    ) -> Canvas:
        """files: `image`, and where there are any `mask` and `markup`. Sizes are width and height.
        Raises InvalidRequest that names the parameter of the wrong one."""
        ask = partial(
            Intake.canvas,
            image=files["image"],
            mask=files.get("mask"),
            markup=files.get("markup"),
            size=size,
            small_size=small_size,
            grid=grid,
        )
        return await _unless_refused(lambda: ask(self._running()), params)

    async def reference(
        self, files: Mapping[str, bytes], params: Mapping[str, str], most_pixels: int
    ) -> Reference:
        """One picture that a model looks at. files: `image`, and where there is one `markup`.
        Raises InvalidRequest that names the parameter of the wrong one."""
        ask = partial(
            Intake.reference,
            image=files["image"],
            markup=files.get("markup"),
            most_pixels=most_pixels,
        )
        return await _unless_refused(lambda: ask(self._running()), params)

    async def store(
        self,
        tenant: str,
        pictures: Mapping[str, bytes],
        size: tuple[int, int],
        life_seconds: float,
        *,
        upload: Upload | None = None,
    ) -> StoredFile:
        """The row, then its blobs; pictures: by name. An upload is seen by the tenant. Raises
        FilesFull, LedgerUnavailable, and Unavailable when the disk is full."""
        file_id = new_file_id()
        keys = {input_key(file_id, name): data for name, data in pictures.items()}
        file = StoredFile(
            id=file_id,
            tenant=tenant,
            purpose=VISION if upload else INPUT,
            filename=upload.filename if upload else "",
            bytes=max(upload.sent_bytes if upload else 0, sum(map(len, pictures.values()))),
            width=size[0],
            height=size[1],
            blobs=tuple(keys),
            created_at=0.0,
            expires_at=life_seconds,
        )
        stored = await self._ledger.add_file(file, upload.room if upload else UNLIMITED)
        try:
            for key, data in keys.items():
                await in_store(self._blobs.put, key, data)
        except OSError as error:
            log.warning("a picture could not be stored: %s", error)
            await self._ledger.drop_file(tenant, file_id)
            raise Unavailable from None
        return stored

    def close(self) -> None:
        """End the process. Blocks."""
        with self._starting:
            for process in (self._intake, self._checks):
                if process is not None:
                    process.close()

    def _running(self) -> Intake:
        with self._starting:
            if self._intake is None:
                self._intake = Intake(workers=INSIDE)
            return self._intake

    def _checking(self) -> Checks:
        with self._starting:
            if self._checks is None:
                self._checks = Checks(workers=INSIDE)
            return self._checks


async def _unless_refused(ask: Callable[[], T], params: Mapping[str, str]) -> T:
    try:
        return await asyncio.to_thread(ask)
    except Refused as refused:
        param = params[refused.field]
        message = f"Invalid value for '{param}': {refused}."
        raise InvalidRequest(message, param=param, code=refused.code) from None
