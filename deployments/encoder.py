"""The prompt encoder as a deployment: batches prompts that arrive together."""

from __future__ import annotations

import asyncio
import time

from deployments import loopback
from deployments.logs import install_logs
from deployments.metrics.catalogue import Part
from deployments.metrics.reports import started
from deployments.node_metrics import metrics_of_node
from deployments.telemetry import TELL_NOTHING, Telemetry
from deployments.transport import take_large_messages
from dispatch.local_stages import EncoderOptions, LocalEncoder
from engine.prompt_encoder import EncodedPrompt, PromptText

take_large_messages()

loopback.install()


class EncoderReplica:
    """Prompts as the family's decoders and the prompt screen read them."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, options: EncoderOptions, telemetry: Telemetry = TELL_NOTHING
    ) -> None:
        began = time.monotonic()
        install_logs(telemetry.logs, "encoder")
        node = await asyncio.to_thread(metrics_of_node, telemetry.metrics)
        self._encoder = await LocalEncoder.start(options)
        started(node, Part.ENCODER, telemetry.model, time.monotonic() - began)

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See LocalEncoder."""
        return await self._encoder.encode(words)

    def check_health(self) -> None:
        """Serve asks; it replaces a replica that raises."""
        self._encoder.check()
