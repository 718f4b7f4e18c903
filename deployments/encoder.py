"""The prompt encoder: batches prompts that arrive together, in a process that can be killed."""

from __future__ import annotations

from collections.abc import Mapping

from ray import serve

from deployments import loopback
from dispatch.ports import CallFailed
from dispatch.stage_worker import StageWorker
from engine.prompt_encoder import EncodedPrompt, PromptText

loopback.install()


class EncoderReplica:
    """Prompts as the family's decoders and the prompt screen read them.

    family, options: as create_decoder takes them. threads: of the encoders' process. max_batch and
    batch_wait_seconds: how many prompts go through the networks together, and how long the first
    of them waits for company.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        family: str,
        options: Mapping[str, object],
        threads: int,
        max_batch: int,
        batch_wait_seconds: float,
    ) -> None:
        self._worker = await StageWorker.start(
            "engine.prompt_encoders:PromptEncoders",
            {"family": family, "options": options, "threads": threads},
        )
        self._batched.set_max_batch_size(max_batch)
        self._batched.set_batch_wait_timeout_s(batch_wait_seconds)

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """What decoders and the prompt screen read. CallFailed for a prompt that ends or hangs the
        encoders, not for those that were batched with it; StageUnavailable."""
        encoded: EncodedPrompt | CallFailed = await self._batched(words)
        if isinstance(encoded, CallFailed):
            raise encoded
        return encoded

    @serve.batch  # type: ignore[untyped-decorator]
    async def _batched(self, words: list[PromptText]) -> list[EncodedPrompt | CallFailed]:
        return await self._worker.call_each("encode", words)

    def check_health(self) -> None:
        """Serve asks; it replaces a replica that raises."""
        self._worker.check()
