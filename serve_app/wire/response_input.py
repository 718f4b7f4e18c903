"""`input` of POST /v1/responses: what was said, and which pictures it is about. Pure.

A conversation may be sent whole. Its last `image_generation_call` is the picture that it goes on
from: what was said before that is in the picture already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from serve_app.wire.edits import ImageRef
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.requests import check_clean
from serve_app.wire.response_answers import CALL, image_of_call

_OURS = ("assistant",)
"""Roles whose texts are answers: they have no effect."""
_TEXTS = ("input_text", "output_text", "text", "refusal")

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NamedPicture:
    """A picture of the input, and the parameter that names it."""

    param: str
    ref: ImageRef


@dataclass(frozen=True, slots=True)
class EarlierCall:
    """An `image_generation_call` that was sent back: its id, and the picture where that came
    along."""

    param: str
    id: str
    result: str | None


@dataclass(frozen=True, slots=True)
class Conversed:
    """An input, read. items: as they are listed again, without pictures that came whole."""

    texts: tuple[str, ...] = ()
    """Since the last call."""
    earlier: tuple[str, ...] = ()
    """Before it."""
    pictures: tuple[NamedPicture, ...] = ()
    """Since the last call."""
    call: EarlierCall | None = None
    items: tuple[Item, ...] = field(default=())


def read_input(given: str | Sequence[Item]) -> Conversed:
    """Raises InvalidRequest, naming what is wrong."""
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    found = Conversed()
    for number, item in enumerate(items):
        found = _with_item(found, item, f"input[{number}]" if items is given else "input")
    if not any(text.strip() for text in found.texts):
        message = "Invalid value for 'input': it has no text, and the text is the prompt."
        raise InvalidRequest(message, param="input")
    return found


def joined(texts: Sequence[str]) -> str:
    """One prompt of what was said one after the other."""
    return ", ".join(text.strip() for text in texts if text.strip())


def shown(kind: object) -> str:
    """What a client called it, cut short."""
    return str(kind)[:64].encode("ascii", "replace").decode()


def _with_item(found: Conversed, item: Item, param: str) -> Conversed:
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message":
        return _with_message(found, item, param)
    if kind == CALL:
        return _with_call(found, item, param)
    if kind == "item_reference" and image_of_call(str(item.get("id"))):
        return _with_call(found, {"id": item["id"]}, param)
    message = (
        f"Unsupported value for '{param}.type': '{shown(kind)}'. Items are messages, and "
        f"pictures that were drawn before: {CALL}."
    )
    raise InvalidRequest(message, param=f"{param}.type", code="unsupported_value")


def _with_call(found: Conversed, item: Item, param: str) -> Conversed:
    """What was said before it is behind it."""
    named, result = item.get("id"), item.get("result")
    if not isinstance(named, str) or not (result is None or isinstance(result, str)):
        message = f"Invalid value for '{param}.id': a call has the 'id' that it was answered with."
        raise InvalidRequest(message, param=f"{param}.id")
    check_clean(f"{param}.id", named)
    return replace(
        found,
        texts=(),
        earlier=(*found.earlier, *found.texts),
        pictures=(),
        call=EarlierCall(f"{param}.id", named, result),
        items=(*found.items, {"type": CALL, "id": named[:128]}),
    )


def _with_message(found: Conversed, item: Item, param: str) -> Conversed:
    role, content = item.get("role"), item.get("content")
    if role not in ("user", *_OURS):
        message = (
            f"Unsupported value for '{param}.role': no language model is here to read instructions;"
            " say it as 'user': the text is the prompt."
        )
        raise InvalidRequest(message, param=f"{param}.role", code="unsupported_value")
    whole = isinstance(content, str)
    parts: object = [{"type": "input_text", "text": content}] if whole else content
    if not isinstance(parts, list):
        message = f"Invalid value for '{param}.content': give a text or a list of parts."
        raise InvalidRequest(message, param=f"{param}.content", code="invalid_type")
    if whole:
        check_clean(param if param == "input" else f"{param}.content", str(content))
    kept: list[Item] = []
    for number, part in enumerate(parts):
        named = f"{param}.content[{number}]"
        found = _with_part(found, part, named, kept, counts=role not in _OURS)
    said = {"type": "message", "role": role, "content": kept}
    return replace(found, items=(*found.items, said))


def _with_part(
    found: Conversed, part: object, param: str, kept: list[Item], *, counts: bool
) -> Conversed:
    """counts: its text is part of the prompt."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind in _TEXTS:
        text = _text(part, param)
        kept.append({"type": "input_text" if counts else "output_text", "text": text})
        return replace(found, texts=(*found.texts, text)) if counts else found
    if isinstance(part, dict) and kind == "input_image" and counts:
        ref = _ref(part, param)
        kept.append({"type": "input_image", **_repeated(ref)})
        return replace(found, pictures=(*found.pictures, NamedPicture(param, ref)))
    message = (
        f"Unsupported value for '{param}.type': '{shown(kind)}'. A message has parts of the "
        "types input_text and input_image."
    )
    raise InvalidRequest(message, param=f"{param}.type", code="unsupported_value")


def _text(part: Mapping[str, Any], param: str) -> str:
    text = part.get("refusal") if part["type"] == "refusal" else part.get("text")
    if not isinstance(text, str):
        message = f"Invalid value for '{param}.text': it is no text."
        raise InvalidRequest(message, param=f"{param}.text", code="invalid_type")
    check_clean(param, text)
    return text


def _ref(part: Mapping[str, Any], param: str) -> ImageRef:
    named = {name: part.get(name) for name in ("image_url", "file_id")}
    try:
        ref = ImageRef.model_validate(named)
    except ValidationError:
        message = f"Invalid value for '{param}': give either image_url or file_id, as a text."
        raise InvalidRequest(message, param=param) from None
    for text in named.values():
        check_clean(param, text or "")
    drawn = image_of_call(ref.file_id or "")
    return ImageRef(file_id=drawn) if drawn else ref


def _repeated(ref: ImageRef) -> Item:
    """Without a picture that came whole: that is no text to be kept."""
    url = ref.image_url
    sent = None if url is None or not url.lower().startswith(("http:", "https:")) else url
    return {"image_url": sent, "file_id": ref.file_id, "detail": "auto"}
