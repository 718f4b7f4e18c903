"""What a model can be asked for: what GET /v1/models shows is what orders are held to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from engine.capabilities import Capabilities
from jobs.request import ImageRequest, Tenant
from serve_app.config.cluster import parse_cluster_config
from serve_app.wire.edits import parse_tweak
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.models import Models, ServedModel, announcement
from serve_app.wire.possible import Possible
from serve_app.wire.requests import RequestContext, RequestOptions, parse_generation

CONFIG = parse_cluster_config(
    {
        "model": {"name": "xl", "size": "1024x1024", "guidance": 5.0, "max_pixels": 1572864},
        "qualities": {"low": 4, "medium": 8, "high": None, "xhigh": None, "max": 20},
        "limits": {"images": 4},
    }
)
WIDE = Capabilities((1024, 1024), (128, 128), 1, negative_prompt=True, size_multiple=64)
SMALL = Capabilities((96, 96), (12, 12), 1)
DISTILLED = replace(WIDE, guidance=False, negative_prompt=False)


def possible(can: Capabilities = WIDE) -> Possible:
    return Possible(ServedModel(announcement(CONFIG), can), CONFIG.limits)


def order(can: Capabilities = WIDE, **fields: Any) -> ImageRequest:
    models = Models((possible(can).model,))
    context = RequestContext(RequestOptions(), Tenant("t1", "free"), CONFIG, models, seed=7)
    body = json.dumps({"prompt": "a red fox", **fields}).encode()
    return parse_generation(body, context).request


def refusal(can: Capabilities = WIDE, **fields: Any) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as refused:
        order(can, **fields)
    return refused.value.param, refused.value.message


@pytest.mark.parametrize("can", [WIDE, SMALL, DISTILLED])
def test_what_is_shown_is_accepted_and_no_more(can: Capabilities) -> None:
    shown = possible(can).shown()
    sizes, steps = shown["sizes"], shown["steps"]
    for size in (*sizes["suggested"], sizes["auto"]):
        assert "{0.width}x{0.height}".format(order(can, size=size)) == size
    assert sizes["suggested"][0] == sizes["auto"] == "1024x1024"
    for name, passes in shown["qualities"].items():
        assert order(can, quality=name).passes == passes
    for number in (steps["least"], steps["most"]):
        assert order(can, steps=number).passes == number
    assert order(can).passes == steps["auto"]
    assert order(can, n=shown["n"]).n == shown["n"]
    assert refusal(can, n=shown["n"] + 1)[0] == "n"
    assert refusal(can, steps=steps["most"] + 1)[0] == "steps"


def test_sizes_are_between_what_the_model_has_learned_and_the_operator_allows() -> None:
    sizes = possible().shown()["sizes"]
    assert (sizes["least_pixels"], sizes["pixels"]) == (256 * 256, 1572864)
    assert (sizes["drawn"], sizes["drawn_divisible_by"]) == ("1024x1024", 64)
    assert sizes["suggested"] == [
        "1024x1024", "1152x832", "832x1152", "1216x832", "832x1216", "1344x768", "768x1344",
    ]  # fmt: skip
    param, says = refusal(size="128x128")
    assert (param, says) == (
        "size",
        "Invalid value for 'size': at least 65536 pixels in all; the nearest is '256x256'.",
    )
    assert "and 1572864 in all; the nearest is '1248x1248'" in refusal(size="2048x2048")[1]
    assert order(SMALL, size="128x128").width == 128, "drawn in one size, and scaled"
    assert possible(SMALL).shown()["sizes"]["drawn_divisible_by"] is None


def test_steps_stand_in_place_of_a_quality() -> None:
    asked = order(steps=5)
    assert (asked.passes, asked.steps, asked.quality) == (5, 5, "low"), "the nearest is reported"
    assert asked.cost_seconds == 5 * CONFIG.model.pass_seconds
    assert refusal(steps=21) == (
        "steps", "Invalid value for 'steps': 21, this model takes 1 to 20."
    )  # fmt: skip
    assert "'max' is 20 of them" in refusal(steps=5, quality="max")[1]
    assert refusal(quality="high") == (
        "quality", "Invalid value for 'quality': this model has low, medium, max."
    )  # fmt: skip


def test_guidance_is_of_models_that_take_one() -> None:
    assert [order().guidance, order(guidance=7).guidance] == [5.0, 7.0]
    assert possible().shown()["guidance"] == {"auto": 5.0, "least": 1.0, "most": 20.0}
    assert possible(DISTILLED).shown()["guidance"] is None
    assert refusal(DISTILLED, guidance=7)[1].startswith("Unsupported parameter: 'guidance'")
    param, says = refusal(guidance=1, negative_prompt="snow")
    assert param == "negative_prompt"
    assert "changes nothing with a guidance of 1" in says


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, (5, "auto", 7.0)),
        ({"quality": "max"}, (None, "max", 7.0)),
        ({"steps": 9, "guidance": 3}, (9, "auto", 3.0)),
        ({"model": "other"}, (None, "low", None)),
    ],
)
def test_a_tweak_keeps_the_numbers_of_its_picture(said: dict[str, Any], kept: object) -> None:
    parent = order(steps=5, guidance=7)
    body, _ = parse_tweak(json.dumps(said).encode(), parent, 10_000)
    assert (body.steps, body.quality, body.guidance) == kept


def test_a_tweak_of_a_plain_picture_says_no_numbers() -> None:
    body, _ = parse_tweak(b"", order(quality="max"), 10_000)
    assert (body.steps, body.quality, body.guidance) == (None, "max", None)


def test_a_tweak_without_guidance_keeps_no_negative_prompt() -> None:
    parent = order(negative_prompt="snow")
    said = [parse_tweak(body, parent, 10_000)[1].negative for body in (b"{}", b'{"guidance": 1}')]
    assert said == ["snow", None]
