"""Deployment handles as the protocols that `dispatch.dispatcher` expects."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from deployments.replica_health import HEALTH
from deployments.slots import AWAY, stage_unavailable
from dispatch.ports import CallLost, StageUnavailable
from dispatch.silence import ReplicaSilent, unless_silent
from engine.policy import Look
from engine.prompt_encoder import Embeddings, EncodedPrompt, PromptText
from engine.render import Pixels
from engine.verdict import Verdict

REPLICAS = 2
"""That are asked for one answer, at most."""


class RemoteEncoder:
    """The PromptEncoder deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        found: EncodedPrompt = await _answer(self._handle.encode, words)
        return found


class RemoteClassifier:
    """The SafetyClassifier deployment."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def screen_prompt(self, words: PromptText, embeddings: Embeddings, look: Look) -> Verdict:
        """See Classifier."""
        verdict: Verdict = await _answer(self._handle.screen_prompt, words, embeddings, look)
        return verdict

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:
        """See Classifier."""
        verdict: Verdict = await _answer(self._handle.screen_image, pixels, look)
        return verdict


async def _answer(method: DeploymentHandle, *arguments: object) -> Any:
    """Of one replica; of another one where that is silent, since what is asked here may be asked
    twice. Raises StageUnavailable, CallLost, CallFailed."""
    for _ in range(REPLICAS):
        with HEALTH.sent(arguments[0]) as sent:
            try:
                return await unless_silent(method.remote(*arguments), partial(HEALTH.lives, sent))
            except ReplicaSilent:
                HEALTH.is_silent(sent)
            except RayActorError as error:
                raise CallLost(f"the replica that was asked is lost: {error!r}") from error
            except AWAY as error:
                raise stage_unavailable(error, "no answer") from error
    raise StageUnavailable(f"{REPLICAS} replicas in a row are silent")
