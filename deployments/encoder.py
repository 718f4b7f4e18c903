"""The prompt encoder: batches prompts that arrive together, in a process that can be killed."""

from __future__ import annotations

from ray import serve

from deployments import loopback
from dispatch.ports import CallFailed
from dispatch.stage_worker import StageWorker
from engine.render import Conditioning

loopback.install()


class EncoderReplica:
    """prompt -> Conditioning. max_batch and batch_wait_seconds: how many prompts go through the
    network together, and how long the first of them waits for company."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, threads: int, max_batch: int, batch_wait_seconds: float
    ) -> None:
        self._worker = await StageWorker.start("engine.text:TextEncoder", {"threads": threads})
        self._batched.set_max_batch_size(max_batch)
        self._batched.set_batch_wait_timeout_s(batch_wait_seconds)

    async def encode(self, prompt: str) -> Conditioning:
        """What decoders and the prompt screen read. CallFailed for a prompt that ends or hangs the
        encoder, not for those that were batched with it; StageUnavailable."""
        encoded: Conditioning | CallFailed = await self._batched(prompt)
        if isinstance(encoded, CallFailed):
            raise encoded
        return encoded

    @serve.batch  # type: ignore[untyped-decorator]
    async def _batched(self, prompts: list[str]) -> list[Conditioning | CallFailed]:
        return await self._worker.call_each("encode", prompts)

    def check_health(self) -> None:
        """Serve asks; it replaces a replica that raises."""
        self._worker.check()
