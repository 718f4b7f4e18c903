"""Deployment handles as the protocols that `dispatch.dispatcher` expects. Translation only."""

from __future__ import annotations

from collections.abc import Awaitable

from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from deployments.slots import AWAY, stage_unavailable
from dispatch.ports import CallLost, Screening
from engine.verdict import Verdict


class RemoteEncoder:
    """The PromptEncoder deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def encode(self, prompt: str) -> object:
        """A Conditioning. Raises StageUnavailable, CallLost, CallFailed."""
        return await _answer(self._handle.encode.remote(prompt))


class RemoteClassifier:
    """The SafetyClassifier deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def screen_prompt(self, prompt: str, conditioning: object) -> Screening:
        """A verdict on the words. Raises StageUnavailable, CallLost, CallFailed."""
        call = self._handle.screen_prompt.remote(prompt, conditioning)
        return _screening(await _answer(call))

    async def screen_image(self, pixels: object, moderation: str) -> Screening:
        """A verdict on pixels. Raises StageUnavailable, CallLost, CallFailed."""
        call = self._handle.screen_image.remote(pixels, moderation)
        return _screening(await _answer(call))


async def _answer(call: Awaitable[object]) -> object:
    try:
        return await call
    except RayActorError as error:
        raise CallLost(f"the replica that was asked is lost: {error!r}") from error
    except AWAY as error:
        raise stage_unavailable(error, "no answer") from error


def _screening(verdict: object) -> Screening:
    if not isinstance(verdict, Verdict):
        raise TypeError(f"expected a Verdict, got {type(verdict).__name__}")
    return Screening(verdict.blocked, verdict.categories)
