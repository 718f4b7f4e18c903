"""What schemathesis has to know of us beyond our OpenAPI document: which strings are sizes, and the
rules between fields, which no JSON Schema can say."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis.generation.jsonschema import strategy
from schemathesis.specs.openapi.negative import _strip_binary

from serve_app.config.sizes import STEP, SizeBounds
from tests.fuzz.server import FUZZED

ORDERS = {"createImages", "createEdits", "tweakImage"}
SIDES = st.integers(1, 24).map(lambda steps: STEP * steps)
MOST_PIXELS: int = FUZZED["limits"]["max_pixels"]


def fits(size: str) -> bool:
    """Whether the lane draws pictures of that size."""
    try:
        return size == "auto" or bool(SizeBounds(MOST_PIXELS).parse(size))
    except ValueError:
        return False


schemathesis.openapi.format(
    "image-size", st.just("auto") | st.builds("{}x{}".format, SIDES, SIDES).filter(fits)
)


def _png(mode: str) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (64, 64), 40).save(out, "PNG")
    return out.getvalue()


PICTURES = tuple(_png(mode) for mode in ("RGB", "RGBA", "L"))
URLS = tuple(f"data:image/png;base64,{b64encode(png).decode()}" for png in PICTURES)
schemathesis.openapi.format("binary", st.sampled_from(PICTURES) | st.binary(max_size=64))
schemathesis.openapi.format(
    "image-url", st.sampled_from((*URLS, "data:image/png;base64,AAAA", "https://localhost/a.png"))
)


_judge_of = strategy._validator


def judge_of(schema: Any) -> Callable[[Any], bool]:
    """schemathesis 4.32.5 judges what it draws for a `not`, as a wrong form is, by a validator that
    raises for files ("Unsupported type: 'Binary'"). As its other validators do, take a file for a
    string without characters."""
    judge = _judge_of(schema)
    return lambda value: judge(_strip_binary(value))


strategy._validator = judge_of


RIVALS = (("mask", "strength"), ("mask", "markup"), ("prompt", "delta"))
"""Fields of which there may be one."""


def refusable(body: Mapping[str, Any], headers: Mapping[str, Any]) -> Iterator[str]:
    """Fields that are fine alone and wrong together: those that a refusal may name. (Whether an
    Idempotency-Key has seen another body, only the ledger knows.)"""
    prefer = str(headers.get("Prefer", "")).lower().split(",")
    later = "respond-async" in (wish.strip() for wish in prefer)
    png = body.get("output_format") in (None, "png")
    if png and body.get("output_compression") not in (None, 100):
        yield "output_compression"
    if body.get("stream") and later:
        yield "stream"
    if body.get("stream") and body.get("response_format") == "url":
        yield "response_format"
    if body.get("partial_images") and not body.get("stream") and not later:
        yield "partial_images"
    if not fits(body.get("size") or "auto"):
        yield "size"
    if body.get("steps") is not None and body.get("quality") not in (None, "auto"):
        yield "steps"
    if body.get("negative_prompt") and body.get("guidance") == 1:
        yield "negative_prompt"
    for one, other in RIVALS:
        if body.get(one) is not None and body.get(other) is not None:
            yield other


ACROSS = {"partial_images", "stream", "response_format"}
"""Rules of the Images API that a turn of a conversation does not have."""


def refusable_turn(turn: Mapping[str, Any]) -> Iterator[str]:
    """As `refusable`, of a turn that goes on from no response."""
    [tool] = turn["tools"]
    action, pictures = tool.get("action"), "input_image" in json.dumps(turn["input"])
    masked, strong = (tool.get(name) is not None for name in ("input_image_mask", "strength"))
    if turn.get("background") and turn.get("store") is False:
        yield "store"
    if turn.get("previous_response_id") is not None:
        return
    if (
        set(refusable(tool, {})) - ACROSS
        or (pictures and action == "generate")
        or (not pictures and action == "edit")
        or (masked or strong) > pictures
        or (masked and strong)
    ):
        yield "tools"


def doubtful_turn(turn: Mapping[str, Any]) -> Iterator[str]:
    """Fields of a turn that are refused for what only the ledger or a picture tells."""
    [tool] = turn["tools"]
    if not isinstance(turn["input"], str):
        yield "input"
    if turn.get("previous_response_id") is not None:
        yield from ("previous_response_id", "tools")
    if tool.get("input_image_mask") is not None:
        yield "tools"


def foreign(body: Mapping[str, Any]) -> Iterator[str]:
    """Pictures that the service may refuse: a mask needs an alpha channel and the picture's size,
    and others may be none of ours."""
    for name in body.keys() & {"file", "image", "images", "mask", "markup"}:
        given = body[name] if isinstance(body[name], list) else [body[name]]
        if name in ("mask", "markup") or not all(_ours(one) for one in given):
            yield name


def _ours(picture: Any) -> bool:
    if isinstance(picture, dict):
        return picture.get("image_url") in URLS
    return picture in URLS or getattr(picture, "data", None) in PICTURES


@schemathesis.check
def between_fields(_ctx: Any, response: Any, case: Any) -> None:
    """In place of positive_data_acceptance where there are rules between fields: what the schema
    allows is done, unless a rule forbids it, and then the refusal names a field of that rule."""
    name = case.operation.definition.raw.get("operationId")
    if name not in ORDERS | {"createFile", "createResponse"} or not isinstance(case.body, dict):
        return
    if not (case.meta and case.meta.generation.mode.is_positive):
        return
    said = {
        field: value for field, value in case.body.items() if value != ""
    }  # not said, in a form
    broken = set(refusable(said, case.headers or {})) if name in ORDERS else set()
    doubtful = set(foreign(case.body))
    if name == "createResponse":
        broken, doubtful = set(refusable_turn(said)), set(doubtful_turn(said))
    if response.status_code in (200, 202):
        assert not broken, f"accepted, although {broken} do not fit together"
        return
    problem = json.loads(response.content)["error"]
    if problem["code"] == "idempotency_mismatch":
        assert "Idempotency-Key" in (case.headers or {})
        return
    if response.status_code == 404:  # a picture of that id, which may be anything
        return
    assert response.status_code == 400, f"{response.status_code} {problem['message']}"
    named = (problem["param"] or "").partition("[")[0].partition(".")[0]
    assert named in broken | doubtful, f"refused: {problem['message']}"
