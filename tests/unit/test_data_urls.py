"""data: URLs: as browsers read them, and bounded."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_from_bytes

import pytest

from serve_app.wire.data_urls import data_of, is_data_url
from serve_app.wire.errors import InvalidRequest

DATA = bytes(range(256)) + b"\xfb\xff\xfe?>"  # 261 bytes: no padding; with + and /
ODD = DATA + b"x"
TEXT, ODD_TEXT = base64.b64encode(DATA).decode(), base64.b64encode(ODD).decode()
READ = [
    (f"data:image/png;base64,{TEXT}", DATA),
    (f"data:image/jpg;base64,{TEXT}", DATA),
    (f"data:text/html;base64,{TEXT}", DATA),
    (f"data:;base64,{TEXT}", DATA),
    (f"DATA:IMAGE/PNG;BASE64,{TEXT}", DATA),
    (f" \n data:image/png;base64,{TEXT}\n", DATA),
    (f"data:image/png;charset=utf-8;base64,{TEXT}", DATA),
    (f'data:image/png;name="a.png";charset=x; base64 ,{TEXT}', DATA),
    (f"data:image/png;base64,{base64.encodebytes(DATA).decode()}", DATA),
    (f"data:image/png;base64,{ODD_TEXT}", ODD),
    (f"data:image/png;base64,{ODD_TEXT.rstrip('=')}", ODD),
    (f"data:image/png;base64,{base64.urlsafe_b64encode(ODD).decode()}", ODD),
    (f"data:image/png;base64,{quote(ODD_TEXT, safe='')}", ODD),
    (f"data:image/png;base64,{TEXT}#fragment", DATA),
    (f"data:image/png,{quote_from_bytes(DATA, safe='')}", DATA),
    (f"data:image/png;base64;charset=utf-8,{TEXT}", TEXT.encode()),  # no base64: it ends otherwise
    ("data:,", b""),
    ("data:image/png;base64,", b""),
]


@pytest.mark.parametrize(("url", "data"), READ)
def test_spellings(url: str, data: bytes) -> None:
    assert is_data_url(url)
    assert data_of(url, "images", 1000) == data


@pytest.mark.parametrize(
    "text", ["A", "AA=", "AAAA=", "A===", "AA==AA==", "AA*A", "AAé=", "\ud800"]
)
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not valid base64") as caught:
        data_of(f"data:image/png;base64,{text}", "mask", 1000)
    assert caught.value.param == "mask"


def test_without_a_comma_there_is_no_data() -> None:
    with pytest.raises(InvalidRequest, match="has a comma"):
        data_of("data:image/png;base64", "mask", 1000)


def test_escapes_are_read_across_pieces() -> None:
    for before in range(4):
        url = "data:," + "a" * before + "%41" * 50_000 + "%4"
        assert data_of(url, "image", 10**6) == b"a" * before + b"A" * 50_000 + b"%4"


def test_the_limit_is_of_the_picture() -> None:
    assert data_of(f"data:;base64,{base64.encodebytes(ODD).decode()}", "image", len(ODD)) == ODD
    for url in (f"data:;base64,{TEXT}AAAA", f"data:,{'x' * 264}"):
        with pytest.raises(InvalidRequest) as caught:
            data_of(url, "image", len(ODD))
        assert caught.value.code == "image_too_large"
