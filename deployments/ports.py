"""Deployment handles as the protocols that `jobs.dispatch` expects. Translation only."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ray.serve.handle import DeploymentHandle

from deployments.slots import AWAY, stage_unavailable
from engine.picture import encode, resize
from engine.verdict import Verdict
from jobs.blobs import BlobStore
from jobs.ports import Screening, StageUnavailable
from jobs.request import ImageRequest


class RemoteEncoder:
    """The PromptEncoder deployment."""

    def __init__(self, handle: DeploymentHandle, timeout_seconds: float) -> None:
        self._handle = handle
        self._timeout_seconds = timeout_seconds

    async def encode(self, prompt: str) -> object:
        """A Conditioning. Raises StageUnavailable."""
        return await _answer(self._handle.encode.remote(prompt), self._timeout_seconds)


class RemoteClassifier:
    """The SafetyClassifier deployment."""

    def __init__(self, handle: DeploymentHandle, timeout_seconds: float) -> None:
        self._handle = handle
        self._timeout_seconds = timeout_seconds

    async def screen_prompt(self, prompt: str, conditioning: object) -> Screening:
        """A verdict on the words. Raises StageUnavailable."""
        call = self._handle.screen_prompt.remote(prompt, conditioning)
        return _screening(await _answer(call, self._timeout_seconds))

    async def screen_image(self, pixels: object, moderation: str) -> Screening:
        """A verdict on pixels. Raises StageUnavailable."""
        call = self._handle.screen_image.remote(pixels, moderation)
        return _screening(await _answer(call, self._timeout_seconds))


class LocalPress:
    """Resizes, encodes and stores in a small thread pool of this process: Pillow and fsync both
    release the interpreter lock."""

    def __init__(self, blobs: BlobStore, threads: int) -> None:
        self._blobs = blobs
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="press")

    async def encode(self, pixels: object, request: ImageRequest) -> bytes:
        """The file that was asked for."""
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, _file_of, pixels, request
        )

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """Into the blob store. Raises StageUnavailable when it cannot be written."""
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._pool, lambda: self._blobs.put(key, data, durable=durable)
            )
        except OSError as error:
            raise StageUnavailable(f"the blob store cannot write {key}: {error}") from error


def _file_of(pixels: object, request: ImageRequest) -> bytes:
    picture = resize(np.asarray(pixels, dtype=np.uint8), request.width, request.height)
    return encode(picture, request.output_format, request.output_compression)  # type: ignore[arg-type]


async def _answer(call: object, timeout_seconds: float) -> object:
    try:
        return await asyncio.wait_for(call, timeout_seconds)  # type: ignore[arg-type]
    except AWAY as error:
        raise stage_unavailable(error, "no answer") from error


def _screening(verdict: object) -> Screening:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"expected a Verdict, got {type(verdict).__name__}")
    return Screening(verdict.blocked, verdict.categories)
