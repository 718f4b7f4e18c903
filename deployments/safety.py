"""The safety classifier: real screens behind two short calls, in a process that can be killed, and
the policy that decides about their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from deployments import loopback
from deployments.verdict_counters import VerdictCounters
from dispatch.batching import Batching
from dispatch.stage_worker import StageWorker
from engine.classifiers.checkpoint import ClassifierSpec
from engine.policy import DEFAULT_POLICY, Look, SafetyPolicy, Scores, ScreenStage, policy_of
from engine.prompt_encoder import Embeddings, PromptText
from engine.render import Pixels
from engine.verdict import Verdict, merge

loopback.install()

PICTURES_TOGETHER = 8
"""That go through the classifiers in one call, at most."""


class SafetyReplica:
    """Screens prompts and pictures; refuses to start without its weights.

    screens: names of the image screens that are on. prompt: whether prompts are screened. weights:
    folder of the picture model, which carries its own concept screen. threads: for one picture.
    policy: of the start. classifiers: the operator's checkpoints, beside the embedded screens.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        screens: Sequence[str],
        prompt: bool,
        weights: str,
        threads: int,
        policy: SafetyPolicy = DEFAULT_POLICY,
        classifiers: Sequence[ClassifierSpec] = (),
    ) -> None:
        self._started = self._policy = policy
        self._counters = VerdictCounters()
        self._worker = await StageWorker.start(
            "engine.safety:SafetyScreens",
            {
                "screens": screens,
                "prompt": prompt,
                "weights": weights,
                "threads": threads,
                "classifiers": tuple(classifiers),
            },
        )
        self._pictures = Batching(self._worker, "score_images", most=PICTURES_TOGETHER)

    def reconfigure(self, live: dict[str, Any]) -> None:
        """The policy of an edited config file, without a restart; that of the start where it names
        none."""
        policy = live.get("moderation")
        self._policy = self._started if policy is None else policy_of(policy)

    async def screen_prompt(self, words: PromptText, embeddings: Embeddings, look: Look) -> Verdict:
        """A verdict on the words; the negative ones have a stage of their own, and scores under its
        name. CallFailed, StageUnavailable."""
        scores: list[Scores] = await self._worker.call("score_prompts", words.texts, embeddings)
        prompt = self._decide(scores[0], replace(look, stage=ScreenStage.PROMPT))
        if words.negative is None:
            return prompt
        negative = self._decide(scores[1], replace(look, stage=ScreenStage.NEGATIVE_PROMPT))
        apart = tuple((f"{ScreenStage.NEGATIVE_PROMPT}/{name}", at) for name, at in negative.scores)
        return merge((prompt, replace(negative, scores=apart)))

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:
        """A verdict on a picture. CallFailed, StageUnavailable."""
        scores: Scores = await self._pictures.call(pixels)
        return self._decide(scores, look)

    def _decide(self, scores: Scores, look: Look) -> Verdict:
        verdict = self._policy.decide(scores, look)
        self._counters.count(look.stage, verdict)
        return verdict

    def check_health(self) -> None:
        """Serve asks; it replaces a replica that raises."""
        self._worker.check()
