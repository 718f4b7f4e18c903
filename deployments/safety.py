"""The safety classifier as a deployment: two short calls, and a policy that is live."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from deployments import loopback
from deployments.logs import install_logs
from deployments.metrics.catalogue import Part
from deployments.metrics.reports import count_verdict, started
from deployments.node_metrics import metrics_of_node
from deployments.telemetry import TELL_NOTHING, Telemetry
from deployments.transport import take_large_messages
from dispatch.local_stages import ClassifierOptions, LocalClassifier
from engine.policy import Look, SafetyPolicy, policy_of
from engine.prompt_encoder import Embeddings, PromptText
from engine.render import Pixels
from engine.verdict import Verdict

take_large_messages()

loopback.install()


class SafetyReplica:
    """Screens prompts and pictures; refuses to start without its weights."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, options: ClassifierOptions, telemetry: Telemetry = TELL_NOTHING
    ) -> None:
        began = time.monotonic()
        install_logs(telemetry.logs, "classifier")
        metrics = await asyncio.to_thread(metrics_of_node, telemetry.metrics)
        self._classifier = await LocalClassifier.start(options, partial(count_verdict, metrics))
        started(metrics, Part.CLASSIFIER, telemetry.model, time.monotonic() - began)

    def reconfigure(self, live: dict[str, Any]) -> None:
        """The policy of an edited config file, without a restart."""
        self._classifier.adopt(policy_in(live))

    async def screen_prompt(self, words: PromptText, embeddings: Embeddings, look: Look) -> Verdict:
        """See LocalClassifier."""
        return await self._classifier.screen_prompt(words, embeddings, look)

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:
        """See LocalClassifier."""
        return await self._classifier.screen_image(pixels, look)

    def check_health(self) -> None:
        """Serve asks; it replaces a replica that raises."""
        self._classifier.check()


def policy_in(live: dict[str, Any]) -> SafetyPolicy | None:
    """That of a `user_config`; None where it names none."""
    policy = live.get("moderation")
    return None if policy is None else policy_of(policy)
