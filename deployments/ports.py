"""Deployment handles as the protocols that `jobs.dispatch` expects. Translation only."""

from __future__ import annotations

import asyncio

from ray.serve.handle import DeploymentHandle

from deployments.slots import AWAY, stage_unavailable
from engine.verdict import Verdict
from jobs.ports import Screening


class RemoteEncoder:
    """The PromptEncoder deployment."""

    def __init__(self, handle: DeploymentHandle, timeout_seconds: float) -> None:
        self._handle = handle
        self._timeout_seconds = timeout_seconds

    async def encode(self, prompt: str) -> object:
        """A Conditioning. Raises StageUnavailable, CallFailed."""
        return await _answer(self._handle.encode.remote(prompt), self._timeout_seconds)


class RemoteClassifier:
    """The SafetyClassifier deployment."""

    def __init__(self, handle: DeploymentHandle, timeout_seconds: float) -> None:
        self._handle = handle
        self._timeout_seconds = timeout_seconds

    async def screen_prompt(self, prompt: str, conditioning: object) -> Screening:
        """A verdict on the words. Raises StageUnavailable, CallFailed."""
        call = self._handle.screen_prompt.remote(prompt, conditioning)
        return _screening(await _answer(call, self._timeout_seconds))

    async def screen_image(self, pixels: object, moderation: str) -> Screening:
        """A verdict on pixels. Raises StageUnavailable, CallFailed."""
        call = self._handle.screen_image.remote(pixels, moderation)
        return _screening(await _answer(call, self._timeout_seconds))


async def _answer(call: object, timeout_seconds: float) -> object:
    try:
        return await asyncio.wait_for(call, timeout_seconds)  # type: ignore[arg-type]
    except AWAY as error:
        raise stage_unavailable(error, "no answer") from error


def _screening(verdict: object) -> Screening:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"expected a Verdict, got {type(verdict).__name__}")
    return Screening(verdict.blocked, verdict.categories)
