"""The prompt encoder of the embedded model: it retrieves. A prompt becomes the rows of things that
the model remembers, with colours, counts and places; words that no list has go through MiniLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.capabilities import DEFAULT_WEIGHTS
from engine.disguise import undisguised
from engine.prompt_encoder import PromptText
from engine.render import Conditioning
from engine.scene import SceneCodes
from engine.scene_reader import AskedThing, Scene, read_scene
from engine.scene_sentence import sentence
from engine.text import TextEncoder
from engine.vocabulary import Vocabulary, encoder_identity
from engine.weights import WeightsFolder

DESCRIBED = 2
"""Words beside its name and colour by which a thing is described."""


class SceneEncoder(TextEncoder):
    """prompt -> Conditioning: "things" and "scene" as SceneCodes packs them, and "pooled", which
    the prompt screen reads."""

    def __init__(self, weights: Path | str = DEFAULT_WEIGHTS, *, threads: int = 0) -> None:
        """weights: a folder as `make train` writes it. Raises WeightsError."""
        folder = WeightsFolder.open(Path(weights or DEFAULT_WEIGHTS))
        super().__init__(threads=threads)
        self._vocabulary = Vocabulary.load(folder)
        self.model = encoder_identity(folder)

    def encode(self, prompts: Sequence[PromptText]) -> list[Conditioning]:
        """See PromptEncoder; decoders of these conditionings read no negative prompt."""
        if any(prompt.negative is not None for prompt in prompts):
            raise ValueError("negative: decoders of this encoder cannot use a negative prompt")
        scenes = [read_scene(undisguised(prompt.prompt), self._vocabulary) for prompt in prompts]
        unsure = [thing for scene in scenes for thing in scene.things if not thing.sure]
        texts = [prompt.prompt for prompt in prompts]
        read = self._read([*texts, *(t.text for t in unsure)])
        found = {
            thing: self._vocabulary.nearest(vector, thing.meaning)
            for thing, vector in zip(unsure, read[len(texts) :], strict=True)
        }
        return [
            self._conditioning(prompt.digest(self.model), pooled, _codes(scene, found))
            for prompt, scene, pooled in zip(prompts, scenes, read[: len(texts)], strict=True)
        ]

    def _conditioning(
        self, digest: str, pooled: NDArray[np.float16], codes: SceneCodes
    ) -> Conditioning:
        told = Conditioning.from_numpy(digest, pooled=pooled, **codes.arrays())
        said = sentence(codes, self._vocabulary.names)
        return replace(told, revised_prompt=said, encoder=self.model)


def _colour(thing: AskedThing, concept: int) -> int:
    """Of a thing that was found to be this concept; -1 where the colour is a part of what describes
    it: "a green fruit with red flesh" has its own."""
    named = thing.meaning is not None and thing.meaning.concept == concept
    return thing.colour if named or thing.more < DESCRIBED else -1


def _codes(scene: Scene, found: Mapping[AskedThing, int]) -> SceneCodes:
    """found: the concepts of things that no list names for sure."""
    listed = {t: t.meaning.concept for t in scene.things if t.meaning is not None and t.sure}
    concepts = {**found, **listed}
    return SceneCodes(
        tuple((concepts[t], _colour(t, concepts[t]), t.count) for t in scene.things),
        -1 if scene.background is None else scene.background,
        -1 if scene.look is None else scene.look,
        scene.relation,
        scene.place,
        scene.small,
    )
