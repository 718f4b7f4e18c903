"""The whole work of a picture in one process: encode, screen, render, screen, PNG.

What the rivals call, and what finds their best thread count and batch size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.decoder import Decoder, Render
from engine.picture import encode, resize
from engine.registry import create_decoder
from engine.render import Conditioning, Pixels, RenderSpec
from engine.safety import SafetyScreens
from engine.text import TextEncoder
from scripts.bench.workload import SIDE_PIXELS, Ask


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one process draws.

    options: of the decoder family. passes: of each quality. batch: renders in one static batch.
    rows_leave: a finished row leaves the tensors at once instead of riding to the batch's end.
    rows_together: rows go through the network as one tensor instead of one after another.
    """

    family: str
    options: Mapping[str, Any]
    passes: Mapping[str, int]
    guidance: float
    screens: tuple[str, ...]
    threads: int = 1
    batch: int = 1
    rows_leave: bool = True
    rows_together: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        return cls(**{**values, "screens": tuple(values["screens"])})

    def decoder_options(self) -> dict[str, Any]:
        """What the family is built with; paced has no threads."""
        own = {} if self.family == "paced" else {"threads": self.threads}
        return {**self.options, **own}


class Unfit(ValueError):
    """A screen blocked a picture of the bench; no side may skip work because of it."""


@dataclass(slots=True)
class Drawer:
    """Draws static batches: all rows begin together and come back together."""

    recipe: Recipe
    encoder: TextEncoder = field(init=False)
    screens: SafetyScreens = field(init=False)
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.encoder = TextEncoder(threads=recipe.threads)
        self.decoder = create_decoder(recipe.family, **recipe.decoder_options())
        weights = str(recipe.options.get("weights", ""))
        self.screens = SafetyScreens(recipe.screens, True, weights, recipe.threads)

    def draw(self, asks: Sequence[Ask]) -> list[bytes]:
        """One PNG for each."""
        conditionings = self.prepare([ask.prompt for ask in asks])
        specs = [
            spec_of(ask, conditioning, self.recipe.guidance)
            for ask, conditioning in zip(asks, conditionings, strict=True)
        ]
        if self.recipe.rows_together:
            self.decoder.row_chunk = len(specs)
        return self.press(run_static(self.decoder, specs, rows_leave=self.recipe.rows_leave))

    def prepare(self, prompts: Sequence[str]) -> list[Conditioning]:
        """Encoded and screened prompts."""
        conditionings = self.encoder.encode(prompts)
        for verdict in self.screens.screen_prompts(prompts, conditionings):
            if verdict.blocked:
                raise Unfit(f"prompt blocked: {verdict.categories}")
        return conditionings

    def press(self, pictures: Sequence[Pixels]) -> list[bytes]:
        """Screened pictures as PNG files."""
        for verdict in self.screens.screen_images(pictures):
            if verdict.blocked:
                raise Unfit(f"picture blocked: {verdict.categories}")
        return [encode(resize(p, SIDE_PIXELS, SIDE_PIXELS), "png") for p in pictures]


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
    prompt takes the seat, so that every pass costs what a full batch costs.
    """
    longest = max(spec.passes for spec in specs)
    renders: list[Render] = [decoder.begin(spec, None) for spec in specs]
    seats = list(renders)
    for done in range(1, longest + 1):
        decoder.step(seats)
        left = [render for render in renders if render.spec.passes > done]
        seats = left if rows_leave else [_seat(decoder, seat, longest) for seat in seats]
    return [decoder.finish(render) for render in renders]


def _seat(decoder: Decoder, seat: Render, longest: int) -> Render:
    """The row itself while it has passes to do, then one that only takes its room."""
    if seat.pass_no < seat.spec.passes:
        return seat
    return decoder.begin(replace(seat.spec, passes=longest), None)
