"""The screens of a service, built from its settings: which are on, and where each draws its line.

A screen that cannot load stops the start; there is no "off because broken".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from engine.image_screen import ImageScreen, NsfwScreen
from engine.prompt_encoder import Embeddings, PromptText
from engine.prompt_screen import PromptScreen
from engine.render import Pixels
from engine.verdict import ScreenUnusable, Verdict, merge

__all__ = ["IMAGE_SCREENS", "PromptScreen", "SafetyScreens", "ScreenUnusable", "Verdict", "merge"]

IMAGE_SCREENS = ("sexual", "weapons")
"""Every image screen there is, by category; all are on unless the settings name fewer."""
_UNSCREENED = Verdict(blocked=False, categories=(), scores=(), screen="none")


class SafetyScreens:
    """Every screen that is on. Stateless after loading; call it from worker threads: it burns CPU.

    screens: categories out of IMAGE_SCREENS. prompt: whether prompts are screened. weights: the
    picture model's folder, which carries its concept screen. threads: of this process's screens.
    thresholds: category -> 0..1, in place of an image screen's own.
    """

    def __init__(
        self,
        screens: Sequence[str],
        prompt: bool,
        weights: Path | str,
        threads: int = 1,
        *,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """Load what is on; ScreenUnusable, WeightsError or plain ValueError names what is wrong."""
        limits = dict(thresholds or {})
        for name in (*screens, *limits):
            if name not in IMAGE_SCREENS:
                raise ValueError(f"image screen {name!r} is unknown; there are {IMAGE_SCREENS}")
        for name, limit in limits.items():
            if not 0 < limit < 1:
                raise ValueError(f"threshold of {name} is {limit}, not within 0..1")
        self._prompt = PromptScreen() if prompt else None
        self._images = [_load(name, Path(weights), limits.get(name), threads) for name in screens]

    def screen_prompts(self, prompts: Sequence[str], embeddings: Embeddings) -> list[Verdict]:
        """One verdict a prompt, in order; a row of the embeddings each."""
        if self._prompt is None:
            return [_UNSCREENED] * len(prompts)
        return self._prompt.screen(prompts, embeddings)

    def screen_prompt(self, words: PromptText, embeddings: Embeddings) -> Verdict:
        """The verdict on all of a request's words."""
        return merge(self.screen_prompts(words.texts, embeddings))

    def screen_images(self, pixels: Sequence[Pixels], moderation: str = "auto") -> list[Verdict]:
        """One verdict a picture, in order: blocked by any screen.

        moderation: "auto", or "low" for a line half-way between a screen's own and certainty.
        """
        if moderation not in ("auto", "low"):
            raise ValueError(f"moderation must be auto or low, got {moderation!r}")
        if not self._images:
            return [_UNSCREENED] * len(pixels)
        answers = [_verdicts(screen, pixels, moderation) for screen in self._images]
        return [merge(answer[i] for answer in answers) for i in range(len(pixels))]

    def screen_image(self, pixels: Pixels, moderation: str = "auto") -> Verdict:
        """The verdict on one picture."""
        return self.screen_images([pixels], moderation)[0]


def _verdicts(screen: ImageScreen, pixels: Sequence[Pixels], moderation: str) -> list[Verdict]:
    limit = screen.threshold if moderation == "auto" else (1 + screen.threshold) / 2
    category = screen.category
    return [
        Verdict(
            blocked=score >= limit,
            categories=(category,) if score >= limit else (),
            scores=((category, score),),
            screen=category,
        )
        for score in screen.scores(pixels).tolist()
    ]


def _load(name: str, weights: Path, threshold: float | None, threads: int) -> ImageScreen:
    if name == NsfwScreen.category:
        return NsfwScreen(threshold=threshold, threads=threads)
    # Imported on demand: without the concept screen this process never loads torch.
    import_module("torch").set_num_threads(threads)
    concept: ImageScreen = import_module("engine.concept_screen").ConceptScreen(
        weights, threshold=threshold
    )
    return concept
