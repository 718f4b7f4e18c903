"""The prompt encoder: batches prompts that arrive together, off the event loop."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

from ray import serve

from deployments import loopback
from engine.render import Conditioning

if TYPE_CHECKING:
    from engine.text import TextEncoder

loopback.install()


class EncoderReplica:
    """prompt -> Conditioning. max_batch and batch_wait_seconds: how many prompts go through the
    network together, and how long the first of them waits for company."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, threads: int, max_batch: int, batch_wait_seconds: float
    ) -> None:
        self._encoder = await asyncio.to_thread(_load, threads)
        self._batched.set_max_batch_size(max_batch)
        self._batched.set_batch_wait_timeout_s(batch_wait_seconds)

    async def encode(self, prompt: str) -> Conditioning:
        """What decoders and the prompt screen read."""
        encoded: Conditioning = await self._batched(prompt)
        return encoded

    @serve.batch  # type: ignore[untyped-decorator]
    async def _batched(self, prompts: list[str]) -> list[Conditioning]:
        return await asyncio.to_thread(self._encoder.encode, prompts)


def _load(threads: int) -> TextEncoder:
    """Imported here: whoever wires the stages, such as a gateway, imports this file, and the
    network's libraries would cost each of them 200 MB."""
    encoder: TextEncoder = import_module("engine.text").TextEncoder(threads=threads)
    return encoder
