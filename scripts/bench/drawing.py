"""The whole work of a picture in one process: encode, screen, render, screen, enlarge, PNG.

What the rivals call, and what finds their best thread count and batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from engine.capabilities import OWN, enlarger_folder
from engine.decoder import Decoder, DecodeState
from engine.picture import encode
from engine.policy import DEFAULT_POLICY, Look, ScreenStage
from engine.postprocessing import Postprocessing
from engine.prompt_encoder import PromptText
from engine.prompt_encoders import PromptEncoders
from engine.registry import create_decoder
from engine.render import Conditioning, Pixels, RenderSpec
from engine.safety import SafetyScreens
from engine.worker import Worker
from scripts.bench.workload import SIDE_PIXELS, Ask, Recipe


class Unfit(ValueError):
    """A screen blocked a picture of the bench; no side may skip work because of it."""


@dataclass(slots=True)
class Finisher:
    """What is done with pixels."""

    recipe: Recipe
    screens: SafetyScreens = field(init=False)
    postprocessing: Postprocessing = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        weights = str(recipe.options.get("weights", ""))
        self.screens = SafetyScreens(recipe.screens, True, weights, recipe.threads)
        enlarger = enlarger_folder(OWN, recipe.family, recipe.options)
        self.postprocessing = Postprocessing(0, enlarger=enlarger)

    def postprocess(self, pictures: Sequence[Pixels]) -> list[bytes]:
        """Screened pictures as PNG files."""
        for scores in self.screens.score_images(pictures):
            verdict = DEFAULT_POLICY.decide(scores, Look(ScreenStage.FINAL))
            if verdict.blocked:
                raise Unfit(f"picture blocked: {verdict.categories}")
        resized = (self.postprocessing.resized(p, SIDE_PIXELS, SIDE_PIXELS) for p in pictures)
        return [encode(picture, "png") for picture in resized]


@contextmanager
def finisher_beside(recipe: Recipe) -> Iterator[Callable[[Pixels], object]]:
    """What finishes pictures in a process of its own, as our side does; called by one thread."""
    worker = Worker("scripts.bench.drawing:Finisher", {"recipe": recipe})
    try:
        yield lambda pixels: worker.call("postprocess", [pixels])
    finally:
        worker.close()


@dataclass(slots=True)
class Drawer:
    """Draws static batches: all rows begin together and come back together."""

    recipe: Recipe
    encoders: PromptEncoders = field(init=False)
    decoder: Decoder = field(init=False)
    finisher: Finisher = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.encoders = PromptEncoders(recipe.family, recipe.options, recipe.threads)
        self.decoder = create_decoder(recipe.family, **recipe.decoder_options())
        self.finisher = Finisher(recipe)

    def draw(self, asks: Sequence[Ask]) -> list[bytes]:
        """One PNG for each."""
        conditionings = self.prepare([ask.prompt for ask in asks])
        specs = [
            spec_of(ask, conditioning, self.recipe.guidance)
            for ask, conditioning in zip(asks, conditionings, strict=True)
        ]
        drawn = run_static(self.decoder, specs, rows_leave=self.recipe.rows_leave)
        return self.finisher.postprocess(drawn)

    def prepare(self, prompts: Sequence[str]) -> list[Conditioning]:
        """Encoded and screened prompts."""
        encoded = self.encoders.encode([*map(PromptText, prompts)])
        embeddings = np.concatenate([one.embeddings for one in encoded])
        for scores in self.finisher.screens.score_prompts(prompts, embeddings):
            verdict = DEFAULT_POLICY.decide(scores, Look(ScreenStage.PROMPT))
            if verdict.blocked:
                raise Unfit(f"prompt blocked: {verdict.categories}")
        return [one.conditioning for one in encoded]


def spec_of(ask: Ask, conditioning: Conditioning, guidance: float) -> RenderSpec:
    """The render of one request."""
    return RenderSpec(
        render_id=str(ask.seed),
        conditioning=conditioning,
        seed=ask.seed,
        passes=ask.passes,
        guidance=guidance,
    )


def run_static(decoder: Decoder, specs: Sequence[RenderSpec], *, rows_leave: bool) -> list[Pixels]:
    """One static batch until its longest render is done.

    With rows_leave false a finished row keeps its place in the tensors: another render of the same
    prompt takes the row, so that every pass costs what a full batch costs.
    """
    longest = max(spec.passes for spec in specs)
    renders: list[DecodeState] = [decoder.begin(spec, None) for spec in specs]
    rows = list(renders)
    for done in range(1, longest + 1):
        decoder.step(rows)
        left = [render for render in renders if render.spec.passes > done]
        rows = left if rows_leave else [_row(decoder, row, longest) for row in rows]
    return [decoder.finish(render) for render in renders]


def _row(decoder: Decoder, row: DecodeState, longest: int) -> DecodeState:
    """The row itself while it has passes to do, then one that only takes its room."""
    if row.pass_no < row.spec.passes:
        return row
    return decoder.begin(replace(row.spec, passes=longest), None)
