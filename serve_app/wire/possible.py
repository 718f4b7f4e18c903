"""What may be asked of a model. GET /v1/models shows it, and orders are held to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from engine.prompt_encoder import PromptText
from serve_app.config import sizes
from serve_app.config.sections import LEAST_GUIDANCE, MOST_GUIDANCE, LimitsSection
from serve_app.config.sizes import SizeBounds
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.models import ServedModel

SMALLEST_SHARE = 16
"""Of the pixels of a model's own pictures: it has not learned to draw with fewer than one in so
many, a quarter of the width and height."""
SCALED_EDGES = (256, 512, 1024)
"""Of the sizes that are suggested where pictures are drawn in one size and scaled."""
_DEPRECATED = {"auto": "medium", "standard": "medium", "hd": "high"}
_BELOW, _ABOVE = "integer_below_min_value", "integer_above_max_value"


@dataclass(frozen=True, slots=True)
class Possible:
    """Of a model, as one tenant may use it, under a gateway's limits. Each check raises
    InvalidRequest, which names the field and says what is possible."""

    model: ServedModel
    limits: LimitsSection

    @property
    def qualities(self) -> Mapping[str, int]:
        """Passes of each, the fewest first: an announcement keeps no order."""
        return dict(sorted(self.model.terms.qualities.items(), key=itemgetter(1)))

    @property
    def most_steps(self) -> int:
        """As many as the best quality has."""
        return max(self.qualities.values())

    @property
    def bounds(self) -> SizeBounds:
        """Of sizes."""
        can, most = self.model.can, self.model.terms.max_pixels or self.limits.max_pixels
        most = min(most, self.limits.max_pixels)
        own = can.picture_size[0] * can.picture_size[1]
        least = min(own // SMALLEST_SHARE, most // 4) if can.size_multiple else 0
        return SizeBounds(most, max(SizeBounds().least_pixels, least))

    @property
    def auto_size(self) -> tuple[int, int]:
        """Width and height in pixels where none are asked for."""
        return self.bounds.nearest(*sizes.parse_size(self.model.terms.size))

    def suggested_sizes(self) -> list[str]:
        """Of a choice: the model's `auto` first."""
        can, bounds = self.model.can, self.bounds
        width, height = can.picture_size
        if can.size_multiple:
            found = list(bounds.of_shapes(width * height, can.size_multiple))
        else:
            scales = [edge / max(width, height) for edge in SCALED_EDGES]
            found = [bounds.nearest(round(width * one), round(height * one)) for one in scales]
        return [_spelled(size) for size in dict.fromkeys([self.auto_size, *found])]

    def size(self, asked: str) -> tuple[int, int]:
        """Width and height in pixels."""
        if asked == "auto":
            return self.auto_size
        try:
            return self.bounds.parse(asked)
        except ValueError as error:
            raise InvalidRequest(f"Invalid value for 'size': {error}.", param="size") from None

    def effort(self, quality: str, steps: int | None) -> tuple[str, int]:
        """(quality as reported, passes per image); the deprecated names map to today's. With a
        number of steps of its own, the quality is that which is nearest."""
        name = _DEPRECATED.get(quality, quality)
        if name not in self.qualities:
            known = ", ".join(self.qualities)
            raise InvalidRequest(
                f"Invalid value for 'quality': this model has {known}.", param="quality"
            )
        if steps is None:
            return name, self.qualities[name]
        if quality != "auto":
            passes = f"'{name}' is {self.qualities[name]} of them"
            message = f"Choose one: 'steps', or a 'quality': {passes} with this model."
            raise InvalidRequest(message, param="steps")
        self._check_within("steps", steps, 1, self.most_steps)
        return min(self.qualities, key=lambda one: abs(self.qualities[one] - steps)), steps

    def guidance(self, asked: float | None) -> float:
        """How closely the prompt is followed; 1 is not to be guided at all."""
        if asked is None:
            return self.model.terms.guidance
        if not self.model.can.guidance:
            why = "this model takes none; leave it out"
            raise _unsupported("guidance", why)
        self._check_within("guidance", asked, LEAST_GUIDANCE, MOST_GUIDANCE)
        return asked

    def check_images(self, n: int) -> None:
        """At least 1."""
        self._check_within("n", n, 1, self.limits.images)

    def check_words(self, words: PromptText, guidance: float) -> None:
        """Which and how long they are."""
        if not words.prompt.strip():
            raise InvalidRequest("Invalid value for 'prompt': it is empty.", param="prompt")
        if words.negative is not None and not self.model.can.negative_prompt:
            why = "this model cannot be told what not to draw; leave it out or empty"
            raise _unsupported("negative_prompt", why)
        if words.negative is not None and guidance == LEAST_GUIDANCE:
            why = f"it changes nothing with a guidance of {guidance:g}; ask for more, or leave it"
            raise _unsupported("negative_prompt", f"{why} out or empty")
        longest = self.limits.prompt_characters
        for name, text in zip(("prompt", "negative_prompt"), words.texts, strict=False):
            if len(text) > longest:
                raise InvalidRequest(
                    f"Invalid value for '{name}': {len(text)} characters, at most {longest}.",
                    param=name,
                    code="string_above_max_length",
                )

    def _check_within(self, param: str, value: float, least: float, most: float) -> None:
        if least <= value <= most:
            return
        raise InvalidRequest(
            f"Invalid value for '{param}': {value:g}, this model takes {least:g} to {most:g}.",
            param=param,
            code=_BELOW if value < least else _ABOVE,
        )

    def shown(self) -> dict[str, Any]:
        """What requests may say of these, in JSON."""
        can, terms, bounds = self.model.can, self.model.terms, self.bounds
        guidance = {"auto": terms.guidance, "least": LEAST_GUIDANCE, "most": MOST_GUIDANCE}
        return {
            "n": self.limits.images,
            "prompt_characters": self.limits.prompt_characters,
            "negative_prompt": can.negative_prompt,
            "qualities": self.qualities,
            "steps": {"auto": self.qualities["medium"], "least": 1, "most": self.most_steps},
            "guidance": guidance if can.guidance else None,
            "sizes": {
                "auto": _spelled(self.auto_size),
                "suggested": self.suggested_sizes(),
                "divisible_by": sizes.STEP,
                "longest_edge": sizes.LONGEST_EDGE,
                "pixels": bounds.most_pixels,
                "least_pixels": bounds.least_pixels,
                "widest_aspect": sizes.WIDEST_ASPECT,
                "drawn": _spelled(can.picture_size),
                "drawn_divisible_by": can.size_multiple or None,
            },
        }


def _spelled(size: tuple[int, int]) -> str:
    return "{}x{}".format(*size)


def _unsupported(param: str, why: str) -> InvalidRequest:
    message = f"Unsupported parameter: '{param}': {why}."
    return InvalidRequest(message, param=param, code="unsupported_parameter")
