"""JSON without its long strings means the same once they are put back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.wire.errors import BodyTooLarge, InvalidRequest
from serve_app.wire.json_body import (
    LONG_BYTES,
    MOST_STRINGS,
    MOST_VALUES,
    count_values,
    read_json,
    shorten,
)

LONG = "A" * LONG_BYTES
ROOM = 2**20


@pytest.mark.parametrize(
    "text",
    [
        LONG,
        LONG + "/+==",
        "/" + LONG,
        LONG + "\r\n" + LONG,
        '\\"' + LONG,
        "\\" + LONG + "\\\\",
        LONG + "\\" * 7 + '"' + "\\" * 8,
        "ä" + LONG,
        "\t" + LONG,
        "\N{GRINNING FACE}" * LONG_BYTES,
    ],
)
@pytest.mark.parametrize("slashes", ["/", "\\/"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_nothing_is_lost(text: str, slashes: str, ascii_only: bool) -> None:
    document = {"prompt": 'a "fox" \\', "images": [{"image_url": text}, {"image_url": "b"}]}
    raw = json.dumps(document, ensure_ascii=ascii_only).replace("/", slashes).encode()
    assert read_json(raw, ROOM) == document


@given(
    st.lists(
        st.text(st.sampled_from('"\\/nA\n,[{:'), max_size=12).map(lambda text: text + LONG),
        max_size=3,
    ),
    st.text(st.sampled_from('"\\/nA\n,[{:'), max_size=40),
)
def test_quotes_and_backslashes_do_not_confuse_it(long: list[str], short: str) -> None:
    document = {"short": short, "long": long, short: 1, "end": "\\"}
    assert read_json(json.dumps(document).encode(), ROOM) == document


def test_only_what_is_short_is_parsed() -> None:
    raw = json.dumps({"prompt": "a fox", "image": "A" * (50 * LONG_BYTES)}).encode()
    short = shorten(raw)
    assert len(short.raw) < 200
    assert list(short.long.values()) == ["A" * (50 * LONG_BYTES)]


def test_a_client_cannot_name_a_marker() -> None:
    first = shorten(json.dumps({"image": LONG}).encode())
    (marker,) = first.long
    again = read_json(json.dumps({"image": LONG, "prompt": marker}).encode(), ROOM)
    assert again == {"image": LONG, "prompt": marker}


def test_what_is_no_picture_has_little_room() -> None:
    with pytest.raises(BodyTooLarge, match="beside its pictures"):
        read_json(b" " * 50_001 + b"{}", 50_000)
    with pytest.raises(BodyTooLarge):
        read_json(json.dumps({"prompt": "ä" * LONG_BYTES}).encode("utf-16"), 50_000)


@pytest.mark.parametrize(
    "raw", [b'"' * LONG_BYTES * 2, b'{"a": "' + b"A" * LONG_BYTES, b'"' + b"\\" * 99_999]
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_json(raw, ROOM)


@pytest.mark.parametrize(
    "document",
    [
        {f"field_{i}": i for i in range(MOST_STRINGS * 8)},
        {f"field_{i}": i for i in range(MOST_VALUES + 1)},
        {"images": [{"image_url": "x", **{f"field_{i}": i for i in range(MOST_VALUES)}}]},
        {"seed": [[1] * 10 for _ in range(30)]},
        {"n": list(range(30_000))},
    ],
)
def test_a_body_of_many_fields_is_refused_before_it_is_validated(document: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_json(json.dumps(document).encode(), ROOM)
    assert refused.value.code == "too_many_fields"


@pytest.mark.parametrize(
    ("document", "count"),
    [({}, 0), ([1, 2, {"a": [3]}], 5), ("text", 0), ({"a": {"b": {"c": None}}}, 3)],
)
def test_values_are_counted_at_every_depth(document: object, count: int) -> None:
    assert count_values(document, 100) == count
    assert count_values([document] * 1000, 100) > 100
