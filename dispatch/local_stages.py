"""Prompt encoder and safety classifier behind their ports, each with its models in a child process
of whatever process holds it: a replica of a deployment of its own, or a dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from dispatch.batching import Batching
from dispatch.stage_worker import StageWorker
from engine.classifiers.checkpoint import ClassifierSpec
from engine.policy import DEFAULT_POLICY, Look, SafetyPolicy, Scores, ScreenStage
from engine.prompt_encoder import Embeddings, EncodedPrompt, PromptText
from engine.render import Pixels
from engine.verdict import Verdict, merge

PICTURES_TOGETHER = 8
"""That go through the classifiers in one call, at most."""


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """Of one prompt encoder. family, family_options: as create_decoder takes them."""

    family: str
    family_options: Mapping[str, object] = field(default_factory=dict)
    threads: int = 1
    """Of its process."""
    max_batch: int = 8
    """Prompts that go through the networks together, at most."""
    batch_wait_seconds: float = 0.0
    """How long the first of them waits for others."""


class LocalEncoder:
    """See dispatch.ports.Encoder."""

    def __init__(self, worker: StageWorker, options: EncoderOptions) -> None:
        self._worker = worker
        self._batched = Batching(worker, "encode", options.max_batch, options.batch_wait_seconds)

    @classmethod
    async def start(cls, options: EncoderOptions) -> Self:
        """WorkerBroken when the models do not load."""
        given = {"family": options.family, "options": options.family_options}
        build = "engine.prompt_encoders:PromptEncoders"
        return cls(await StageWorker.start(build, {**given, "threads": options.threads}), options)

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder. CallFailed for a prompt that ends or hangs the encoders, not for those that
        were batched with it."""
        encoded: EncodedPrompt = await self._batched.call(words)
        return encoded

    def check(self) -> None:
        """WorkerBroken when the process cannot be replaced."""
        self._worker.check()

    def close(self) -> None:
        """End the process, after the calls under way."""
        self._worker.close()


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """Of one safety classifier. screens: names of the image screens that are on. prompt: whether
    prompts are screened. weights: folder of the picture model, which carries its own concept
    screen."""

    screens: Sequence[str]
    prompt: bool = True
    weights: str = ""
    threads: int = 1
    """For one picture."""
    policy: SafetyPolicy = DEFAULT_POLICY
    """Of the start."""
    classifiers: tuple[ClassifierSpec, ...] = ()
    """The operator's checkpoints, beside the embedded screens."""


class LocalClassifier:
    """See dispatch.ports.Classifier: real screens, and the policy that decides about their scores.

    tell: every verdict of a stage.
    """

    def __init__(
        self,
        worker: StageWorker,
        policy: SafetyPolicy,
        tell: Callable[[ScreenStage, Verdict], None],
    ) -> None:
        self._worker, self._tell = worker, tell
        self._started = self._policy = policy
        self._pictures = Batching(worker, "score_images", PICTURES_TOGETHER)

    @classmethod
    async def start(
        cls,
        options: ClassifierOptions,
        tell: Callable[[ScreenStage, Verdict], None] = lambda stage, verdict: None,
    ) -> Self:
        """WorkerBroken when a screen does not load."""
        arguments = {
            "screens": options.screens,
            "prompt": options.prompt,
            "weights": options.weights,
            "threads": options.threads,
            "classifiers": options.classifiers,
        }
        worker = await StageWorker.start("engine.safety:SafetyScreens", arguments)
        return cls(worker, options.policy, tell)

    def adopt(self, policy: SafetyPolicy | None) -> None:
        """Decide by this one from now on; by that of the start for None."""
        self._policy = policy or self._started

    async def screen_prompt(self, words: PromptText, embeddings: Embeddings, look: Look) -> Verdict:
        """See Classifier. The scores of the negative words stand under the name of their stage."""
        scores: list[Scores] = await self._worker.call("score_prompts", words.texts, embeddings)
        prompt = self._decide(scores[0], replace(look, stage=ScreenStage.PROMPT))
        if words.negative is None:
            return prompt
        negative = self._decide(scores[1], replace(look, stage=ScreenStage.NEGATIVE_PROMPT))
        apart = tuple((f"{ScreenStage.NEGATIVE_PROMPT}/{name}", at) for name, at in negative.scores)
        return merge((prompt, replace(negative, scores=apart)))

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:
        """See Classifier."""
        scores: Scores = await self._pictures.call(pixels)
        return self._decide(scores, look)

    def _decide(self, scores: Scores, look: Look) -> Verdict:
        verdict = self._policy.decide(scores, look)
        self._tell(look.stage, verdict)
        return verdict

    def check(self) -> None:
        """WorkerBroken when the process cannot be replaced."""
        self._worker.check()

    def close(self) -> None:
        """End the process, after the calls under way."""
        self._worker.close()
