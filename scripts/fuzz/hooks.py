"""What schemathesis has to know of us beyond our OpenAPI document: which strings are sizes, and the
rules between fields, which no JSON Schema can say."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import schemathesis
from hypothesis import strategies as st
from PIL import Image

from scripts.fuzz.server import FUZZED
from serve_app.sizes import STEP, parse_size

ORDERS = {"createImages"}
SIDES = st.integers(1, 24).map(lambda steps: STEP * steps)
MOST_PIXELS: int = FUZZED["limits"]["max_pixels"]


def fits(size: str) -> bool:
    """Whether the lane draws pictures of that size."""
    try:
        return size == "auto" or bool(parse_size(size, MOST_PIXELS))
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
schemathesis.openapi.format("binary", st.sampled_from(PICTURES) | st.binary(max_size=64))


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


def foreign(body: Mapping[str, Any]) -> Iterator[str]:
    """Files of a form that are no pictures of ours: the service may refuse them."""
    for name, value in body.items():
        for file in value if isinstance(value, list) else [value]:
            data = getattr(file, "data", None)
            if isinstance(data, bytes) and data not in PICTURES:
                yield name.removesuffix("[]")


@schemathesis.check
def between_fields(_ctx: Any, response: Any, case: Any) -> None:
    """In place of positive_data_acceptance where there are rules between fields: what the schema
    allows is done, unless a rule forbids it, and then the refusal names a field of that rule."""
    name = case.operation.definition.raw.get("operationId")
    if name not in ORDERS | {"createFile"} or not isinstance(case.body, dict):
        return
    if not (case.meta and case.meta.generation.mode.is_positive):
        return
    broken = set(refusable(case.body, case.headers or {})) if name in ORDERS else set()
    if response.status_code in (200, 202):
        assert not broken, f"accepted, although {broken} do not fit together"
        return
    problem = json.loads(response.content)["error"]
    if problem["code"] == "idempotency_mismatch":
        assert "Idempotency-Key" in (case.headers or {})
        return
    assert response.status_code == 400, f"{response.status_code} {problem['message']}"
    assert problem["param"] in broken | set(foreign(case.body)), f"refused: {problem['message']}"
