"""data: URLs as browsers read them (WHATWG: URL, Fetch, Infra's forgiving-base64). Pure.

The media type is not looked at: the bytes decide what a picture is. Every step is linear in the
URL's length and makes no object per character. Beyond browsers, base64's URL-safe alphabet is read.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes

from serve_app.wire.errors import InvalidRequest

PIECE_BYTES = 65_536
_SCHEME = re.compile(r"[\x00-\x20]*data:", re.ASCII | re.IGNORECASE)
_BASE64 = re.compile(r"; *base64[ \t\n\f\r]*\Z", re.ASCII | re.IGNORECASE)
_WHITESPACE = b" \t\n\f\r"
_LINE_ENDS = str.maketrans("", "", "\t\n\r")
_STANDARD = bytes.maketrans(b"-_", b"+/")


def is_data_url(url: str) -> bool:
    """Whether it is one, right or wrong."""
    return _SCHEME.match(url) is not None


def data_of(url: str, param: str, most_bytes: int) -> bytes:
    """The bytes of a data: URL. Raises InvalidRequest, naming `param`."""
    kind, comma, body = url.partition(",")
    if not comma or not is_data_url(kind):
        message = (
            f"Invalid value for '{param}': a data: URL has a comma before its data, as in "
            "data:image/png;base64,iVBORw0..."
        )
        raise InvalidRequest(message, param=param, code="invalid_image_url")
    said = body.encode("utf-8", "surrogatepass").partition(b"#")[0].translate(None, b"\t\n\r")
    data = _unescaped(said)
    # Only the media type's end matters; a long one costs no search through it.
    encoded = _BASE64.search(kind[-64:].translate(_LINE_ENDS)) is not None
    if encoded:
        data = data.translate(_STANDARD, _WHITESPACE)
    if (len(data.rstrip(b"=")) * 3 // 4 if encoded else len(data)) > most_bytes:
        message = f"Invalid value for '{param}': more than {most_bytes} bytes."
        raise InvalidRequest(message, param=param, code="image_too_large")
    try:
        return _forgiving(data) if encoded else data
    except ValueError:
        message = f"Invalid value for '{param}': not valid base64."
        raise InvalidRequest(message, param=param, code="invalid_base64") from None


def _unescaped(text: bytes) -> bytes:
    """Percent-decoded piece by piece: unquote_to_bytes makes an object for each escape."""
    if b"%" not in text:
        return text
    pieces, at = list[bytes](), 0
    while at < len(text):
        end = at + PIECE_BYTES
        split = text.rfind(b"%", end - 2, end)  # an escape stays whole
        end = end if split < 0 else split
        pieces.append(unquote_to_bytes(text[at:end]))
        at = end
    return b"".join(pieces)


def _forgiving(text: bytes) -> bytes:
    """Base64 with or without its padding. ValueError."""
    if len(text) % 4 == 0:
        text = text.removesuffix(b"=").removesuffix(b"=")
    if b"=" in text:
        raise ValueError("padding in the middle")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
