"""How clients spell the fields of an edit: in forms everything is text, in JSON it has its type."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engine.capabilities import Capabilities, capabilities
from engine.prompt_encoder import PromptText
from jobs.request import WeightedLora
from serve_app.wire.edits import (
    check_pictures,
    parse_edit,
    parse_form,
    parse_tweak,
    passes_of,
    strength_of,
)
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.loras import LoraBody
from tests.stages.ledger_kit import wish

CELLS = capabilities("paced", {})
PIXELS = Capabilities((512, 512), (64, 64), 1, mask=True, strength=True, size_multiple=8)
WHOLE = replace(PIXELS, mask=False)
"""Changes pictures as a whole alone."""
PARTS = replace(PIXELS, strength=False)
"""Redraws parts alone."""
MOST_BYTES = 10_000
SAID = {"prompt": "a fox"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("n", "2", 2),
        ("n", "2.0", 2),
        ("n", "", 1),
        ("stream", "true", True),
        ("stream", "True", True),  # Python's str()
        ("stream", "1", True),  # PHP's
        ("stream", "FALSE", False),
        ("stream", "0", False),
        ("stream", "", False),
        ("seed", "7", 7),
        ("strength", ".5", 0.5),
        ("strength", "1e-1", 0.1),
        ("response_format", "", "b64_json"),
        ("response_format", "url", "url"),
        ("size", "", "auto"),
        ("user", "", None),
        ("user", "123", "123"),
        ("prompt", "1", "1"),
        ("negative_prompt", "", None),
        ("negative_prompt", "snow", "snow"),
        ("loras", "", None),
        ("loras", "[]", []),
        ("loras", '[{"name": "ink", "weight": 1e-1}]', [LoraBody(name="ink", weight=0.1)]),
        ("model", "", None),
        ("mask", "", None),
        ("image", "", None),
    ],
)
def test_a_text_of_a_form(name: str, text: str, value: object) -> None:
    assert getattr(parse_form({**SAID, name: text}), name, None) == value


@pytest.mark.parametrize(
    ("name", "text", "param"),
    [
        ("n", "two", "n"),
        ("n", "null", "n"),
        ("n", "1.5", "n"),
        ("stream", "yes", "stream"),
        ("stream", "undefined", "stream"),
        ("response_format", "URL", "response_format"),
        ("prompt", "a\0", "prompt"),
        ("loras", "ink", "loras"),
        ("loras", "[" * 99_999, "loras"),
        ("loras", '{"name": "ink"}', "loras"),
        ("loras", '[{"name": "ink", "weight": NaN}]', "loras[0].weight"),
        ("image", "https://example.com/a.png", "image"),
        ("nothing", "", "nothing"),
    ],
)
def test_a_text_that_is_refused_is_named(name: str, text: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_form({**SAID, name: text})
    assert caught.value.param == param


@pytest.mark.parametrize(
    "optional", ["n", "size", "stream", "response_format", "user", "mask", "quality", "seed"]
)
def test_null_in_json_is_left_out(optional: str) -> None:
    said = {**SAID, "image": "file-1"}
    assert parse_edit(json.dumps({**said, optional: None}).encode(), MOST_BYTES) == parse_edit(
        json.dumps(said).encode(), MOST_BYTES
    )


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        ("n", "2", "n"),
        ("stream", "true", "stream"),
        ("stream", 1, "stream"),
        ("seed", "1", "seed"),
        ("quality", "", "quality"),
        ("image", {}, "images[0]"),
        ("image", 3, "images[0]"),
        ("image", [], "images"),
        ("images", "file-2", "image"),
    ],
)
def test_another_type_in_json_is_refused_by_name(name: str, value: object, param: str) -> None:
    body = {**SAID, "image": "file-1", name: value}
    with pytest.raises(InvalidRequest) as caught:
        parse_edit(json.dumps(body).encode(), MOST_BYTES)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("said", "words", "strength"),
    [
        ({}, PromptText("a fox", "snow"), 0.5),
        ({"negative_prompt": "rain"}, PromptText("a fox", "rain"), 0.8),
        ({"negative_prompt": ""}, PromptText("a fox"), 0.8),
        ({"negative_prompt": None}, PromptText("a fox", "snow"), 0.5),
        ({"delta": "at night"}, PromptText("a fox, at night", "snow"), 0.8),
        ({"prompt": "a cat", "negative_prompt": "rain"}, PromptText("a cat", "rain"), 0.8),
    ],
)
def test_a_tweak_keeps_the_words_that_it_does_not_say(
    said: dict[str, str | None], words: PromptText, strength: float
) -> None:
    parent = wish(prompt="a fox", negative_prompt="snow")
    body, told = parse_tweak(json.dumps(said).encode(), parent, MOST_BYTES)
    assert told == words
    assert strength_of(body, False, CELLS) == strength


def test_a_form_says_no_more_values_than_json() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_form({**SAID, "loras": json.dumps([{str(i): i for i in range(300)}])})
    assert caught.value.code == "too_many_fields"


@pytest.mark.parametrize(
    ("said", "loras"),
    [
        ({}, [LoraBody(name="ink", weight=0.5)]),
        ({"loras": None}, [LoraBody(name="ink", weight=0.5)]),
        ({"loras": [{"name": "oil"}]}, [LoraBody(name="oil")]),
        ({"loras": []}, []),
    ],
)
def test_a_tweak_keeps_the_loras_that_it_does_not_say(
    said: dict[str, object], loras: list[LoraBody]
) -> None:
    parent = wish(loras=(WeightedLora("ink", 0.5),))
    body, _ = parse_tweak(json.dumps(said).encode(), parent, MOST_BYTES)
    assert body.loras == loras
    assert strength_of(body, False, CELLS) == 0.5, "its words are the same"


@pytest.mark.parametrize(
    ("can", "images", "masked", "param", "said"),
    [
        (replace(PIXELS, input_images=0), 1, False, "images", "cannot change any"),
        (PIXELS, 2, False, "images", "2 images, this model takes at most 1"),
        (WHOLE, 1, True, "mask", "does not redraw parts"),
        (PARTS, 1, False, "mask", "only redraws parts"),
    ],
)
def test_pictures_that_a_model_cannot_take_are_refused_by_name(
    can: Capabilities, images: int, masked: bool, param: str, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        check_pictures(images, "images", masked, can)
    assert refused.value.param == param


@pytest.mark.parametrize("can", [CELLS, PIXELS, WHOLE, PARTS])
def test_those_that_it_can_take_are_not(can: Capabilities) -> None:
    for masked in {can.mask, not can.strength}:
        check_pictures(1, "images", masked, can)


def test_under_a_mask_strength_is_for_families_that_draw_pixels() -> None:
    body = parse_form({**SAID, "strength": "0.6"})
    assert strength_of(body, True, PIXELS) == 0.6
    assert strength_of(parse_form(SAID), True, PIXELS) == 1.0
    with pytest.raises(InvalidRequest, match="Choose one"):
        strength_of(body, True, CELLS)


@pytest.mark.parametrize(
    ("can", "redrawn", "strength", "passes"),
    [
        (CELLS, 64, 1.0, 3),  # a quarter of its cells
        (PIXELS, 64, 1.0, 12),
        (PIXELS, 256, 0.6, 7),
        (replace(PIXELS, strength_rounds_up=True), 256, 0.6, 8),
    ],
)
def test_an_edit_has_the_passes_that_it_needs(
    can: Capabilities, redrawn: int, strength: float, passes: int
) -> None:
    redraw = np.arange(256) < redrawn
    assert passes_of(12, strength, redraw, can) == passes
