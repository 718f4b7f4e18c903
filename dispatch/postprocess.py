"""From pixels to files and back. Blobs are read and written in threads, as fsync releases the
interpreter lock; pixels are worked on in processes that can be killed, so that a picture that ends
or hangs one does not take the dispatcher with it."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dispatch.identity import NO_IDENTITY, Identity
from dispatch.ports import SourceGone, StageUnavailable
from dispatch.stage_worker import StageWorker
from engine.capabilities import Capabilities
from engine.postprocessing import Outgrown, Postprocessing, Unsigned, Unusable
from engine.provenance.manifest import Made, Parent
from engine.render import Pixels, Source
from jobs.blobs.store import BlobMissing, BlobStore
from jobs.request import ImageRequest, SourceImage

T = TypeVar("T")
log = logging.getLogger(__name__)
STORE_THREADS = 4
UPLOAD = "upload"
"""What a manifest calls the parent of an edit that was not drawn here."""
STORE_SECONDS = 30.0
"""A store that is silent that long is away."""


class Work(Protocol):
    """Runs methods of a Postprocessing."""

    async def call(self, method: str, *arguments: Any) -> Any:
        """Its answer. Raises what it raises, StageUnavailable, CallFailed."""


class InThreads:
    """In this process: nothing can be killed. For tests and tools."""

    def __init__(self, threads: int, cells: int, identity: Identity = NO_IDENTITY) -> None:
        self._work = Postprocessing(cells, identity.mark, identity.signing)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="postprocess")

    async def call(self, method: str, *arguments: Any) -> Any:
        """See Work."""
        work = partial(getattr(self._work, method), *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class InProcesses:
    """In processes of their own, one picture each at a time."""

    def __init__(self, workers: Sequence[StageWorker]) -> None:
        self._workers = tuple(workers)
        self._free: asyncio.Queue[StageWorker] = asyncio.Queue()
        for worker in workers:
            self._free.put_nowait(worker)

    @classmethod
    async def start(
        cls,
        processes: int,
        cells: int,
        identity: Identity = NO_IDENTITY,
        enlarger: Path | None = None,
    ) -> InProcesses:
        """See Postprocessing. WorkerBroken when they do not start."""
        build = "engine.postprocessing:Postprocessing"
        identity_of = {"key": identity.mark, "signing": identity.signing}
        given = {"cells": cells, **identity_of, "enlarger": enlarger}
        starts = (StageWorker.start(build, given) for _ in range(processes))
        return cls(await asyncio.gather(*starts))

    async def call(self, method: str, *arguments: Any) -> Any:
        """See Work."""
        worker = await self._free.get()
        try:
            return await worker.call(method, *arguments)
        finally:
            self._free.put_nowait(worker)

    def check(self) -> None:
        """WorkerBroken when one cannot be started any more."""
        for worker in self._workers:
            worker.check()

    def close(self) -> None:
        """End them."""
        for worker in self._workers:
            worker.close()


class LocalPostprocessor:
    """See dispatch.ports.Postprocessor. can: what the decoders' family can do; None where sources
    are taken as they were prepared."""

    def __init__(
        self,
        blobs: BlobStore,
        work: Work,
        can: Capabilities | None = None,
        store_seconds: float = STORE_SECONDS,
    ) -> None:
        self._can = can
        self._blobs = blobs
        self._work = work
        self._store_seconds = store_seconds
        self._pool = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="blobs")

    async def source(self, request: ImageRequest) -> Source:
        """See Postprocessor."""
        source = _source_of(request)
        tokens = None if source.tokens is None else base64.b64decode(source.tokens)
        png, can = await self._picture(_there(source.small)), self._can
        size = can.picture_size if can is not None and not can.size_multiple else None
        how = source.redraw, tokens, source.strength, size
        found: Source | Unusable = await self._work.call("source", png, *how)
        if isinstance(found, Outgrown) and can is not None:
            log.warning("a source is prepared anew: %s", found.reason)
            canvas = await self._picture(_there(source.canvas))
            place = can.drawn_size(request.width, request.height), can.grid
            seed = None if found.masked else request.seed
            anew = canvas, place, tokens, source.strength, seed
            found = await self._work.call("source_anew", *anew)
        return _usable(found)

    async def references(self, request: ImageRequest) -> tuple[Pixels, ...]:
        """See Postprocessor."""
        found: list[Pixels] = []
        for key in _source_of(request).references:
            read: Pixels | Unusable = await self._work.call("reference", await self._picture(key))
            found.append(_usable(read))
        return tuple(found)

    async def blend(self, pixels: Pixels, request: ImageRequest) -> Pixels:
        """See Postprocessor."""
        canvas = await self._picture(_there(_source_of(request).canvas))
        size = request.width, request.height
        made: Pixels | Unusable = await self._work.call("blend", pixels, *size, canvas)
        return _usable(made)

    async def encode(
        self, pixels: Pixels, request: ImageRequest, *, preview: bool = False
    ) -> bytes:
        """See Postprocessor."""
        size, made = (request.width, request.height), await self._made(request)
        how = size, request.output_format, request.output_compression, made, preview
        file: bytes | Unsigned = await self._work.call("encode", pixels, *how)
        if isinstance(file, Unsigned):
            raise StageUnavailable(file.reason)
        return file

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """See Postprocessor."""
        try:
            await self._stored(partial(self._blobs.put, key, data, durable=durable))
        except OSError as error:
            raise StageUnavailable(f"the blob store cannot write {key}: {error}") from error

    async def get(self, key: str) -> bytes | None:
        """See Postprocessor."""
        try:
            return await self._stored(partial(self._blobs.get, key))
        except BlobMissing:
            return None
        except OSError as error:
            raise StageUnavailable(f"the blob store cannot read {key}: {error}") from error

    async def delete(self, key: str) -> None:
        """See Postprocessor."""
        try:
            await self._stored(partial(self._blobs.delete, key))
        except OSError as error:
            raise StageUnavailable(f"the blob store cannot delete {key}: {error}") from error

    async def _made(self, request: ImageRequest) -> Made:
        source, parent = request.source, None
        if source is not None:
            file = None if source.original is None else await self.get(source.original)
            parent = Parent(source.parent or UPLOAD, file)
        return Made(request.model, datetime.now(UTC), parent)

    async def _picture(self, key: str) -> bytes:
        if (found := await self.get(key)) is None:
            raise SourceGone("the picture to be changed is not kept any more: send it again")
        return found

    async def _stored(self, work: Callable[[], T]) -> T:
        """TimeoutError, an OSError, when the store is silent."""
        async with asyncio.timeout(self._store_seconds):
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _usable(found: T | Unusable) -> T:
    if isinstance(found, Unusable):
        raise SourceGone(found.reason)
    return found


def _there(key: str | None) -> str:
    if key is None:
        raise ValueError("this request looks at pictures and changes none")
    return key


def _source_of(request: ImageRequest) -> SourceImage:
    if request.source is None:
        raise ValueError("this request changes no picture")
    return request.source
