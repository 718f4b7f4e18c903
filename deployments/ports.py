"""Deployment handles as the protocols that `dispatch.dispatcher` expects."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from deployments.slots import AWAY, stage_unavailable
from dispatch.ports import CallLost
from engine.policy import Look
from engine.prompt_encoder import Embeddings, EncodedPrompt, PromptText
from engine.render import Pixels
from engine.verdict import Verdict

T = TypeVar("T")


class RemoteEncoder:
    """The PromptEncoder deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        return await _answer(self._handle.encode.remote(words))


class RemoteClassifier:
    """The SafetyClassifier deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def screen_prompt(self, words: PromptText, embeddings: Embeddings, look: Look) -> Verdict:
        """See Classifier."""
        return await _answer(self._handle.screen_prompt.remote(words, embeddings, look))

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:
        """See Classifier."""
        return await _answer(self._handle.screen_image.remote(pixels, look))


async def _answer(call: Awaitable[T]) -> T:
    """Raises StageUnavailable, CallLost, CallFailed."""
    try:
        return await call
    except RayActorError as error:
        raise CallLost(f"the replica that was asked is lost: {error!r}") from error
    except AWAY as error:
        raise stage_unavailable(error, "no answer") from error
