"""How clients spell the fields of an edit: in forms everything is text, in JSON it has its type."""

from __future__ import annotations

import json

import pytest

from engine.prompt_encoder import PromptText
from jobs.request import WeightedLora
from serve_app.wire.edits import parse_edit, parse_form, parse_tweak, strength_of
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.loras import LoraBody
from tests.stages.ledger_kit import wish

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
    assert strength_of(body, masked=False) == strength


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
    assert strength_of(body, masked=False) == 0.5, "its words are the same"
