"""The shapes of requests that change a picture, and what follows from them. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from engine.capabilities import Capabilities
from engine.prompt_encoder import PromptText
from engine.region import Region, changed_passes, edit_passes
from jobs.request import ImageRequest, SourceImage
from serve_app.config.sections import LEAST_GUIDANCE
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.json_body import number, read_json, read_value
from serve_app.wire.requests import (
    MOVING,
    PictureBody,
    RequestContext,
    parse_body,
    picture_request,
    words_of,
)

MOST_IMAGES = 16
STRENGTHS = {"low": 0.8, "high": 0.5}
"""How much is drawn anew without a mask, by input_fidelity (docs/edits.md)."""
_FORM_NUMBERS = (
    "n",
    "output_compression",
    "partial_images",
    "seed",
    "strength",
    "steps",
    "guidance",
)
_NUMBER = re.compile(r"-?[0-9]{0,20}\.?[0-9]{1,20}(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_IMAGES = ("images", "image", "images[]", "image[]")
"""How clients spell the pictures of an edit in JSON; the first is OpenAI's."""


class ImageRef(BaseModel):
    """A picture that is named in JSON."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    image_url: str | None = None
    file_id: str | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("give either image_url or file_id")
        return self


def _ref(given: object) -> object:
    """A string will do."""
    if not isinstance(given, str):
        return given
    return {"file_id" if given.startswith(("file-", "img_")) else "image_url": given}


ShortRef = Annotated[ImageRef, BeforeValidator(_ref)]
Strength = Annotated[float, Field(gt=0, le=1)]


class EditBody(PictureBody):
    """The fields of POST /v1/images/edits beside its pictures."""

    unsupported: ClassVar[Mapping[str, str]] = {
        **MOVING,
        **dict.fromkeys(("image", "mask", "markup"), "a form sends it as a file, with a filename"),
        "images": "a form sends them as files named image[]",
    }

    prompt: str
    input_fidelity: Literal["low", "high"] | None = None
    strength: Strength | None = None


class JsonEditBody(EditBody):
    """The JSON body of it."""

    unsupported: ClassVar[Mapping[str, str]] = MOVING

    images: Annotated[list[ShortRef], Field(min_length=1, max_length=MOST_IMAGES)]
    mask: ShortRef | None = None
    markup: ShortRef | None = None


class TweakBody(PictureBody):
    """The JSON body of POST /v1/images/{id}/tweaks."""

    unsupported: ClassVar[Mapping[str, str]] = {
        **MOVING,
        "image": "a tweak goes on from the picture in its URL",
        "images": "a tweak goes on from the picture in its URL",
        "input_fidelity": "say 'strength'",
    }

    prompt: str | None = None
    delta: str | None = None
    strength: Strength | None = None
    mask: ShortRef | None = None


def parse_form(fields: Mapping[str, str]) -> EditBody:
    """The text fields of a form; an empty one is left out, but for the prompt. Raises
    InvalidRequest, naming the field."""
    optional = {*EditBody.model_fields, *EditBody.unsupported} - {"prompt"}
    known = {  # a picture without a filename is no text: what it is called says what is wrong
        name: "" if name in EditBody.unsupported else _typed(name, text)
        for name, text in fields.items()
        if text or name not in optional
    }
    return parse_body(EditBody, known)


def parse_edit(raw: bytes, most_bytes: int) -> JsonEditBody:
    """The JSON body. most_bytes: beside its pictures. Raises InvalidRequest, naming the field."""
    return edit_body(read_json(raw, most_bytes))


def edit_body(fields: dict[str, Any]) -> JsonEditBody:
    """The same of a body that was read."""
    return parse_body(JsonEditBody, _with_images(fields))


def _with_images(said: dict[str, Any]) -> dict[str, Any]:
    """One picture or a list of them, under any of their names. Raises InvalidRequest."""
    spelled = [name for name in _IMAGES if name in said]
    if len(spelled) > 1:
        message = f"Choose one: '{spelled[0]}' or '{spelled[1]}'; the list is called 'images'."
        raise InvalidRequest(message, param=spelled[1])
    rest = {name: value for name, value in said.items() if name not in spelled}
    for name in spelled:
        rest["images"] = said[name] if isinstance(said[name], list) else [said[name]]
    return rest


def parse_tweak(raw: bytes, parent: ImageRequest, most_bytes: int) -> tuple[TweakBody, PromptText]:
    """The JSON body, and the words: what it does not say is as it was. Raises InvalidRequest."""
    said = read_json(raw, most_bytes) if raw else {}
    kept: dict[str, Any] = {"output_format": parent.output_format}
    if said.get("output_format", parent.output_format) == parent.output_format:
        kept["output_compression"] = parent.output_compression
    body = parse_body(TweakBody, {**kept, **kept_look(said, parent), **said})
    if body.prompt is not None and body.delta is not None:
        message = "Choose one: a new 'prompt', or a 'delta' to the one that was."
        raise InvalidRequest(message, param="delta")
    if body.delta is not None and not body.delta.strip():
        raise InvalidRequest("Invalid value for 'delta': it is empty.", param="delta")
    return body, _tweaked_words(body, parent)


def kept_look(said: Mapping[str, Any], parent: ImageRequest) -> dict[str, Any]:
    """How the parent was drawn, where that is not said anew."""
    kept: dict[str, Any] = {}
    if said.get("steps") is None:
        kept["quality"] = parent.quality
    if said.get("model") is None:  # another one takes other numbers
        kept |= _kept_numbers(said, parent)
        if parent.background == "transparent" and said.get("output_format") != "jpeg":
            kept["background"] = "transparent"
    if parent.loras:
        kept["loras"] = [asdict(lora) for lora in parent.loras]
    return kept


def _kept_numbers(said: Mapping[str, Any], parent: ImageRequest) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if parent.steps is not None and said.get("steps") is said.get("quality") is None:
        kept |= {"steps": parent.steps, "quality": "auto"}
    if parent.own_guidance is not None:
        kept["guidance"] = parent.own_guidance
    return kept


def _tweaked_words(body: TweakBody, parent: ImageRequest) -> PromptText:
    prompt = parent.prompt if body.prompt is None else body.prompt
    if body.delta is not None:
        prompt = f"{parent.prompt}, {body.delta}"
    negative = body.negative_prompt
    if negative is None and body.guidance != LEAST_GUIDANCE:  # without any it would change nothing
        negative = parent.negative_prompt
    return words_of(prompt, negative)


def check_pictures(count: int, param: str, masked: bool, can: Capabilities) -> None:
    """Raises InvalidRequest where the model cannot take so many, or no mask, or only with one."""
    if not can.input_images:
        raise InvalidRequest("This model draws pictures and cannot change any.", param=param)
    if count > can.input_images:
        message = f"Invalid value for '{param}': {count} images, this model takes at most "
        raise InvalidRequest(f"{message}{can.input_images}.", param=param, code="too_many_images")
    if masked and not can.mask:
        message = "Unsupported parameter: 'mask': this model does not redraw parts of pictures."
        raise InvalidRequest(message, param="mask", code="unsupported_parameter")
    if can.mask and not can.strength and not masked:
        message = "Missing required parameter: 'mask': this model only redraws parts of pictures."
        raise InvalidRequest(message, param="mask", code="missing_required_parameter")


def strength_of(body: EditBody | TweakBody, masked: bool, can: Capabilities) -> float:
    """How much is drawn anew, 0..1: of families that draw cells the share of these, of others how
    far they go away from what was there. Under a mask, everything. Raises InvalidRequest."""
    if masked and body.strength is not None and not can.size_multiple:
        message = "Choose one: a 'mask' says exactly what is drawn again, 'strength' how much."
        raise InvalidRequest(message, param="strength")
    if body.strength is not None:
        return body.strength
    if masked:
        return 1.0
    if isinstance(body, TweakBody):
        same_words = body.prompt is body.delta is body.negative_prompt is None
        return STRENGTHS["high" if same_words else "low"]
    return STRENGTHS[body.input_fidelity or "low"]


def edit_request(
    body: EditBody | TweakBody, words: PromptText, context: RequestContext
) -> ImageRequest:
    """The request but for its source and hash. Raises InvalidRequest, NotFound."""
    request = picture_request(body, words, context)
    return replace(request, revised=isinstance(body, TweakBody) and body.delta is not None)


def passes_of(passes: int, strength: float, redraw: Region, can: Capabilities) -> int:
    """Of an edit, where a whole picture has `passes`. Raises InvalidRequest when there is none."""
    if not can.size_multiple:
        return edit_passes(passes, int(redraw.sum()), redraw.size)
    done = changed_passes(passes, strength, can.strength_rounds_up)
    if not done:
        message = f"Invalid value for 'strength': {strength} of {passes} passes is less than one."
        raise InvalidRequest(message, param="strength")
    return done


def with_source(
    request: ImageRequest, source: SourceImage, passes: int, size: tuple[int, int], seconds: float
) -> ImageRequest:
    """The request, which only draws what the source says: in fewer passes, for less. seconds: of a
    pass of one image."""
    return replace(
        request,
        width=size[0],
        height=size[1],
        passes=passes,
        cost_seconds=request.n * passes * seconds,
        source=source,
    )


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one scaled is the other, and nothing is cut off."""
    return one[0] * other[1] == other[0] * one[1]


def file_digest(data: bytes) -> str:
    """Of a file of a form."""
    return hashlib.sha256(data).hexdigest()


def form_hash(fields: Mapping[str, str], digests: Sequence[tuple[str, str]]) -> str:
    """Of what a form says, whatever its boundary: a retry says the same. digests: of its files, by
    their names."""
    said = json.dumps(["edits", sorted(fields.items()), digests])
    return hashlib.sha256(said.encode()).hexdigest()


def _typed(name: str, text: str) -> object:
    """A form has only text, which is JSON for `loras`. What cannot be read stays text, for the
    shape to refuse."""
    if name in _FORM_NUMBERS and _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("-").isdigit() else number(text)
    if name == "loras":
        with suppress(ValueError):
            return read_value(text)
    return _BOOLEANS.get(text.lower(), text) if name == "stream" else text
