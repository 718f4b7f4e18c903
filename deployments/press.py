"""From pixels to files and back, in a small thread pool of the dispatcher's process: Pillow and
fsync both release the interpreter lock."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.picture import blend, encode, read_png, resize
from engine.region import from_hex
from engine.render import Pixels, Source
from jobs.blobs import BlobMissing, BlobStore
from jobs.ports import SourceGone, StageUnavailable
from jobs.request import ImageRequest, SourceImage

T = TypeVar("T")


class LocalPress:
    """See jobs.ports.Press. threads: so many pictures at once. cells: of the family's grid."""

    def __init__(self, blobs: BlobStore, threads: int, cells: int) -> None:
        self._blobs = blobs
        self._cells = cells
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="press")

    async def source(self, request: ImageRequest) -> Source:
        """See Press."""
        return await self._run(partial(self._source, _source_of(request)))

    async def blend(self, pixels: object, request: ImageRequest) -> Pixels:
        """See Press."""
        return await self._run(partial(self._blend, pixels, request))

    async def encode(self, pixels: object, request: ImageRequest) -> bytes:
        """See Press."""
        return await self._run(partial(_file_of, pixels, request))

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """See Press."""
        try:
            await self._run(partial(self._blobs.put, key, data, durable=durable))
        except OSError as error:
            raise StageUnavailable(f"the blob store cannot write {key}: {error}") from error

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _source(self, source: SourceImage) -> Source:
        pixels = self._picture(source.small)
        try:
            tokens = None if source.tokens is None else base64.b64decode(source.tokens)
            return Source(pixels, from_hex(source.redraw, self._cells), tokens)
        except ValueError as error:
            raise SourceGone(f"this edit does not fit the model any more: {error}") from error

    def _blend(self, pixels: object, request: ImageRequest) -> Pixels:
        return blend(_sized(pixels, request), self._picture(_source_of(request).canvas))

    def _picture(self, key: str) -> NDArray[np.uint8]:
        try:
            data = self._blobs.get(key)
        except BlobMissing as error:
            raise SourceGone("the picture to be changed is not kept any more: send it again") from (
                error
            )
        except OSError as error:
            raise StageUnavailable(f"the blob store cannot read {key}: {error}") from error
        try:
            return read_png(data)
        except (OSError, ValueError) as error:
            raise SourceGone(f"the picture to be changed cannot be read: {error}") from error


def _source_of(request: ImageRequest) -> SourceImage:
    if request.source is None:
        raise ValueError("this request changes no picture")
    return request.source


def _sized(pixels: object, request: ImageRequest) -> Pixels:
    return resize(np.asarray(pixels, dtype=np.uint8), request.width, request.height)


def _file_of(pixels: object, request: ImageRequest) -> bytes:
    picture = _sized(pixels, request)
    return encode(picture, request.output_format, request.output_compression)  # type: ignore[arg-type]
