"""The stages that a dispatcher runs itself, in child processes of its own, in place of calling
deployments: on one machine that is two Ray actors and three calls a picture less."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from deployments.metrics.catalogue import Part
from deployments.metrics.recorder import Metrics
from deployments.metrics.reports import count_verdict, started
from dispatch.local_stages import ClassifierOptions, EncoderOptions, LocalClassifier, LocalEncoder
from engine.policy import SafetyPolicy

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """None: that stage is a deployment, and the dispatcher has its handle."""

    encoder: EncoderOptions | None = None
    classifier: ClassifierOptions | None = None


@dataclass(frozen=True, slots=True)
class LocalStages:
    """Those that are local."""

    encoder: LocalEncoder | None
    classifier: LocalClassifier | None

    @classmethod
    async def start(cls, options: LocalOptions, metrics: Metrics, model: str) -> LocalStages:
        """Both at once. WorkerBroken when models do not load."""

        async def timed(part: Part, start: Awaitable[S]) -> S:
            began = time.monotonic()
            stage = await start
            started(metrics, part, model, time.monotonic() - began)
            return stage

        async def encoder() -> LocalEncoder | None:
            if options.encoder is None:
                return None
            return await timed(Part.ENCODER, LocalEncoder.start(options.encoder))

        async def classifier() -> LocalClassifier | None:
            if options.classifier is None:
                return None
            tell = partial(count_verdict, metrics)
            return await timed(Part.CLASSIFIER, LocalClassifier.start(options.classifier, tell))

        return cls(*await asyncio.gather(encoder(), classifier()))

    def adopt(self, policy: SafetyPolicy | None) -> None:
        """The safety policy of a live edit; see LocalClassifier."""
        if self.classifier is not None:
            self.classifier.adopt(policy)

    def check(self) -> None:
        """WorkerBroken when a process cannot be replaced."""
        for stage in (self.encoder, self.classifier):
            if stage is not None:
                stage.check()

    def close(self) -> None:
        """End the processes, after the calls under way."""
        for stage in (self.encoder, self.classifier):
            if stage is not None:
                stage.close()
