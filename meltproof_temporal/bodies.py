"""Orders as requests of the HTTP API: a path and a JSON body. Pure."""

from __future__ import annotations

from typing import Any

from meltproof_temporal.failures import invalid
from meltproof_temporal.orders import Edit, Generate, Tweak, spoken

Request = tuple[str, dict[str, Any]]
GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def generate_order(order: Generate) -> Request:
    """POST /v1/images/generations."""
    return GENERATIONS, spoken(order)


def edit_order(order: Edit) -> Request:
    """POST /v1/images/edits. Raises ApplicationError for pictures by value."""
    body = spoken(order)
    body["images"] = [_reference(one, "images") for one in order.images]
    for name in ("mask", "markup"):
        if name in body:
            body[name] = _reference(body[name], name)
    return EDITS, body


def tweak_order(order: Tweak) -> Request:
    """POST /v1/images/{id}/tweaks. Raises ApplicationError for what is no id, and for a mask by
    value."""
    body = spoken(order)
    picture = body.pop("picture")
    if not picture or not _ID_CHARACTERS.issuperset(picture):
        raise invalid("the id of a picture, img_...", "picture")
    if order.mask is not None:
        _reference(order.mask, "mask")
    return f"/v1/images/{picture}/tweaks", body


def _reference(text: str, param: str) -> dict[str, str]:
    if text.lower().startswith(("http://", "https://")):
        return {"image_url": text}
    if not text or not _ID_CHARACTERS.issuperset(text):
        raise invalid(
            "the id of a file or picture, or an http(s) URL; pixels do not belong in a workflow's"
            " history: send them to POST /v1/files first",
            param,
        )
    return {"file_id": text}
