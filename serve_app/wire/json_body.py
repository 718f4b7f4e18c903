"""JSON bodies, bounded. Long strings, which are pictures, are taken out before the rest is parsed.

A JSON parser looks at every character of a string and holds the interpreter's lock meanwhile, which
stops the whole gateway for as long. Looking for the next quote is a hundred times as fast. Pure.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.wire.errors import BodyTooLarge, InvalidRequest

LONG_BYTES = 65_536
MOST_STRINGS = 1_024
MOST_PARTS = 65_536
"""Of a JSON body: commas and brackets, those inside of text as well. As many as the longest
prompt and negative prompt could have together; a large body of nothing else would take thirty times
its size in memory."""
MOST_VALUES = 256
"""Of a JSON body, nested ones too: several times as many as any request has a name for."""
_BACKSLASH = ord("\\")
_ESCAPES = ((b"\\/", b"/"), (b"\\n", b"\n"), (b"\\r", b"\r"))
"""What base64 is written with: PHP escapes slashes, MIME encoders break lines."""


def number(text: str) -> int | float:
    """JSON has one kind of number: 2.0 is as whole as 2."""
    value = float(text)
    return int(value) if value.is_integer() else value


_JSON = json.JSONDecoder(parse_float=number)  # json.loads would make one for every request


def read_json(raw: bytes, most_bytes: int, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """The JSON object, without what is null. most_bytes: of all but long strings, which are
    pictures and bounded where the body is read. Raises InvalidRequest, BodyTooLarge."""
    try:
        short = shorten(raw)
    except ValueError:
        raise _too_many_fields(most_values) from None
    if len(short.raw) > most_bytes:
        raise BodyTooLarge(f"The body has more than {most_bytes} bytes beside its pictures.")
    try:
        text = short.raw.decode(json.detect_encoding(short.raw), "surrogatepass")
        document = read_value(text, most_values)
    except ValueError:
        raise InvalidRequest(
            "We could not parse the JSON body of your request.", code="invalid_json"
        ) from None
    if not isinstance(document, dict):
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json")
    return {name: short.restored(value) for name, value in document.items() if value is not None}


def read_value(text: str, most_values: int = MOST_VALUES) -> Any:
    """Any JSON value. Raises ValueError for what is none, and InvalidRequest, without a field, for
    too many fields in it."""
    if sum(map(text.count, ",[{")) > MOST_PARTS:
        raise ValueError("too many parts")
    try:
        value = _JSON.decode(text)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if count_values(value, most_values) > most_values:
        raise _too_many_fields(most_values)
    return value


def _too_many_fields(most_values: int) -> InvalidRequest:
    message = f"The body has more than {most_values} fields and values."
    return InvalidRequest(message, code="too_many_fields")


def count_values(document: object, most: int) -> int:
    """Fields and elements in it, nested ones too; stops counting beyond `most`."""
    count, unseen = 0, [document]
    while unseen and count <= most:
        value = unseen.pop()
        if isinstance(value, (dict, list)):
            count += len(value)
            if count <= most:
                unseen.extend(value.values() if isinstance(value, dict) else value)
    return count


@dataclass(frozen=True, slots=True)
class Shortened:
    """A JSON text with a marker in place of each long string."""

    raw: bytes
    long: Mapping[str, str]
    """The strings, by marker."""

    def restored(self, value: Any) -> Any:
        """A parsed value with its long strings."""
        if not self.long:
            return value
        if isinstance(value, str):
            return self.long.get(value, value)
        if isinstance(value, dict):
            return {name: self.restored(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.restored(one) for one in value]
        return value


def shorten(raw: bytes) -> Shortened:
    """Takes out long strings of plain ASCII, as base64 is; others stay where they are. ValueError
    for a large body of more strings than a request for pictures has."""
    if len(raw) <= LONG_BYTES:
        return Shortened(raw, {})
    pieces, long, kept_from, at = list[bytes](), dict[str, str](), 0, 0
    for _ in range(MOST_STRINGS):
        begin = raw.find(b'"', at) + 1
        end = _end_of_string(raw, begin)
        if not begin or end < 0:
            return Shortened(b"".join((*pieces, raw[kept_from:])), long)
        if end - begin >= LONG_BYTES and (text := _plain(raw[begin:end])) is not None:
            marker = secrets.token_hex(16)
            long[marker] = text
            pieces += (raw[kept_from:begin], marker.encode())
            kept_from = end
        at = end + 1
    raise ValueError(f"more than {MOST_STRINGS} strings in a body of {len(raw)} bytes")


def _end_of_string(raw: bytes, begin: int) -> int:
    """Where the closing quote is, -1 without one: quotes behind an odd number of backslashes are
    part of the string."""
    end = raw.find(b'"', begin)
    while end >= 0 and _backslashes(raw, begin, end) % 2:
        end = raw.find(b'"', end + 1)
    return end


def _backslashes(raw: bytes, begin: int, end: int) -> int:
    first = end
    while first > begin and raw[first - 1] == _BACKSLASH:
        first -= 1
    return end - first


def _plain(text: bytes) -> str | None:
    """As text; None when it has other escapes, or is no ASCII."""
    if b"\\" in text:
        for escape, character in _ESCAPES:
            text = text.replace(escape, character)
    return None if b"\\" in text or not text.isascii() else text.decode("ascii")
