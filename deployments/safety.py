"""The safety classifier: real screens behind two short calls, in a process that can be killed."""

from __future__ import annotations

from collections.abc import Sequence

from deployments import loopback
from dispatch.stage_worker import StageWorker
from engine.prompt_encoder import Embeddings, PromptText
from engine.render import Pixels
from engine.verdict import Verdict

loopback.install()


class SafetyReplica:
    """Screens prompts and pictures; refuses to start without its weights.

    screens: names of the image screens that are on. prompt: whether prompts are screened. weights:
    folder of the picture model, which carries its own concept screen. threads: for one picture.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, screens: Sequence[str], prompt: bool, weights: str, threads: int
    ) -> None:
        self._worker = await StageWorker.start(
            "engine.safety:SafetyScreens",
            {"screens": screens, "prompt": prompt, "weights": weights, "threads": threads},
        )

    async def screen_prompt(self, words: PromptText, embeddings: Embeddings) -> Verdict:
        """A verdict on the words. CallFailed, StageUnavailable."""
        verdict: Verdict = await self._worker.call("screen_prompt", words, embeddings)
        return verdict

    async def screen_image(self, pixels: Pixels, moderation: str) -> Verdict:
        """A verdict on a preview or a final picture. CallFailed, StageUnavailable."""
        verdict: Verdict = await self._worker.call("screen_image", pixels, moderation)
        return verdict

    def check_health(self) -> None:
        """Serve asks; it replaces a replica that raises."""
        self._worker.check()
