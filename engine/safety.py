"""The screens of a service, built from its settings: which are on, and what they say.

They score; what becomes of a score is policy.SafetyPolicy's decision. A screen that cannot load
stops the start; there is no "off because broken".
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from engine.image_screen import ImageScreen, NsfwScreen
from engine.policy import Category, Scores, calibrated, joined
from engine.prompt_encoder import Embeddings
from engine.prompt_screen import PromptScreen
from engine.render import Pixels

IMAGE_SCREENS = ("sexual", "weapons")
"""Every image screen there is, by category; all are on unless the settings name fewer."""


class SafetyScreens:
    """Every screen that is on. Stateless after loading; call it from worker threads: it burns CPU.

    screens: categories out of IMAGE_SCREENS. prompt: whether prompts are screened. weights: the
    picture model's folder, which carries its concept screen. threads: of this process's screens.
    """

    def __init__(
        self, screens: Sequence[str], prompt: bool, weights: Path | str, threads: int = 1
    ) -> None:
        """Load what is on; ScreenUnusable, WeightsError or plain ValueError names what is wrong."""
        for name in screens:
            if name not in IMAGE_SCREENS:
                raise ValueError(f"image screen {name!r} is unknown; there are {IMAGE_SCREENS}")
        self._prompt = PromptScreen() if prompt else None
        self._images = [_load(name, Path(weights), threads) for name in screens]

    def score_prompts(self, prompts: Sequence[str], embeddings: Embeddings) -> list[Scores]:
        """Those of each prompt, in order; a row of the embeddings each."""
        if self._prompt is None:
            return [Scores()] * len(prompts)
        return self._prompt.score(prompts, embeddings)

    def score_images(self, pixels: Sequence[Pixels]) -> list[Scores]:
        """Those of each picture, in order, by every screen."""
        answers = [_scores(screen, pixels) for screen in self._images]
        return [joined(answer[i] for answer in answers) for i in range(len(pixels))]


def _scores(screen: ImageScreen, pixels: Sequence[Pixels]) -> list[Scores]:
    category = Category(screen.category)
    return [
        Scores(((category, calibrated(score, screen.threshold)),), screen.category)
        for score in screen.scores(pixels).tolist()
    ]


def _load(name: str, weights: Path, threads: int) -> ImageScreen:
    if name == NsfwScreen.category:
        return NsfwScreen(threads=threads)
    # Imported on demand: without the concept screen this process never loads torch.
    import_module("torch").set_num_threads(threads)
    concept: ImageScreen = import_module("engine.concept_screen").ConceptScreen(weights)
    return concept
