"""LoRAs that a request names, and how jobs and images show them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from engine.capabilities import Capabilities
from engine.render import LARGEST_LORA_WEIGHT
from jobs.request import ImageRequest, WeightedLora
from serve_app.wire.errors import InvalidRequest

MOST_LORAS = 8
"""In one request."""


class LoraBody(BaseModel):
    """One of those that a picture is drawn with."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str
    weight: Annotated[
        float, Field(ge=-LARGEST_LORA_WEIGHT, le=LARGEST_LORA_WEIGHT, allow_inf_nan=False)
    ] = 1.0


LorasField = Annotated[list[LoraBody], Field(max_length=MOST_LORAS)]


class ShownLora(TypedDict):
    name: str
    weight: float


class DrawnWith(TypedDict, total=False):
    loras: list[ShownLora]


def weighted(asked: Sequence[LoraBody], can: Capabilities) -> tuple[WeightedLora, ...]:
    """Those LoRAs, of a model that has them. Raises InvalidRequest."""
    if asked and not can.loras:
        raise InvalidRequest(
            "Unsupported parameter: 'loras': this model has no LoRAs; leave it out or empty.",
            param="loras",
            code="unsupported_parameter",
        )
    for name, count in Counter(lora.name for lora in asked).items():
        if name not in can.loras:
            there = ", ".join(map(repr, can.loras))
            raise _invalid(f"there is no {name!r}; this model has {there}")
        if count > 1:
            raise _invalid(f"{name!r} is named more than once")
    if len(asked) > can.loras_max:
        raise _invalid(f"{len(asked)} LoRAs, this model takes at most {can.loras_max}")
    return tuple(WeightedLora(lora.name, lora.weight) for lora in asked)


def _invalid(why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for 'loras': {why}.", param="loras")


def drawn_with(request: ImageRequest) -> DrawnWith:
    """Left out where there are none."""
    shown: list[ShownLora] = [{"name": one.name, "weight": one.weight} for one in request.loras]
    return {"loras": shown} if shown else {}
