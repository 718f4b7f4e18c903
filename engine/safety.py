"""The screens of a service, built from its settings: which are on, and what they say.

They score; what becomes of a score is policy.SafetyPolicy's decision. A screen that cannot load
stops the start; there is no "off because broken".
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.classifiers.checkpoint import OF_PROMPTS, ClassifierSpec, check_folder
from engine.classifiers.protocols import ImageClassifier, PromptClassifier
from engine.image_screen import ImageScreen, NsfwScreen
from engine.policy import Category, Scores, calibrated, joined
from engine.prompt_encoder import Embeddings
from engine.prompt_screen import PromptScreen
from engine.render import Pixels

IMAGE_SCREENS = ("sexual", "weapons")
"""Every image screen there is, by category; all are on unless the settings name fewer."""


class SafetyScreens:
    """Every classifier that is on. Stateless after loading; call it from worker threads.

    screens: categories out of IMAGE_SCREENS. prompt: whether prompts are screened by the embedded
    screen. weights: the picture model's folder, which carries its concept screen. threads: of this
    process's classifiers. classifiers: the operator's own, beside the embedded ones.
    """

    def __init__(
        self,
        screens: Sequence[str],
        prompt: bool,
        weights: Path | str,
        threads: int = 1,
        classifiers: Sequence[ClassifierSpec] = (),
    ) -> None:
        """Load what is on; ScreenUnusable, WeightsError, ModelRefused or plain ValueError names
        what is wrong."""
        for name in screens:
            if name not in IMAGE_SCREENS:
                raise ValueError(f"image screen {name!r} is unknown; there are {IMAGE_SCREENS}")
        own = [_own(spec, threads) for spec in classifiers]
        texts = [spec.kind in OF_PROMPTS for spec in classifiers]
        self._prompts: list[PromptClassifier] = [PromptScreen()] if prompt else []
        self._prompts += [one for one, is_text in zip(own, texts, strict=True) if is_text]
        self._images: list[ImageClassifier] = [
            _load(name, Path(weights), threads) for name in screens
        ]
        self._images += [one for one, is_text in zip(own, texts, strict=True) if not is_text]

    def score_prompts(self, prompts: Sequence[str], embeddings: Embeddings) -> list[Scores]:
        """Those of each prompt, in order, by every classifier; a row of the embeddings each."""
        answers = [one.score(prompts, embeddings) for one in self._prompts]
        return [joined(answer[i] for answer in answers) for i in range(len(prompts))]

    def score_images(self, pixels: Sequence[Pixels]) -> list[Scores]:
        """Those of each picture, in order, by every classifier."""
        answers = [one.score(pixels) for one in self._images]
        return [joined(answer[i] for answer in answers) for i in range(len(pixels))]


class _Embedded:
    """An embedded screen of one category as an ImageClassifier."""

    def __init__(self, screen: ImageScreen) -> None:
        self._screen = screen

    def score(self, pixels: Sequence[Pixels]) -> list[Scores]:
        """See ImageClassifier."""
        screen, category = self._screen, Category(self._screen.category)
        return [
            Scores(((category, calibrated(score, screen.threshold)),), screen.category)
            for score in screen.scores(pixels).tolist()
        ]


def _load(name: str, weights: Path, threads: int) -> ImageClassifier:
    if name == NsfwScreen.category:
        return _Embedded(NsfwScreen(threads=threads))
    _torch(threads)
    return _Embedded(import_module("engine.concept_screen").ConceptScreen(weights))


def _own(spec: ClassifierSpec, threads: int) -> Any:
    check_folder(spec)
    _torch(threads)
    return import_module("engine.classifiers.load").load_classifier(spec)


def _torch(threads: int) -> None:
    """Imported on demand: without a network of torch this process never loads it."""
    import_module("torch").set_num_threads(threads)
