"""The size that an edit has by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from serve_app.config.sizes import MAX_PIXELS, SizeBounds, parse_size

edges = some.integers(1, 10_000)


@given(edges, edges, some.integers(256, MAX_PIXELS), some.floats(0, 1))
def test_every_picture_has_an_allowed_size(
    width: int, height: int, most: int, share: float
) -> None:
    bounds = SizeBounds(most, max(256, int(share * (most // 4))))
    near = bounds.nearest(width, height)
    assert bounds.parse("{}x{}".format(*near)) == near


@given(some.integers(1, 240), some.integers(1, 240))
def test_what_is_allowed_stays(columns: int, rows: int) -> None:
    size = columns * 16, rows * 16
    try:
        parse_size("{}x{}".format(*size))
    except ValueError:
        return
    assert SizeBounds().nearest(*size) == size


@pytest.mark.parametrize(
    ("size", "near"),
    [
        ((1, 1), (16, 16)),
        ((1000, 500), (992, 496)),
        ((7680, 4320), (3840, 2160)),
        ((10_000, 10), (528, 176)),
        ((5000, 5000), (2880, 2880)),
    ],
)
def test_the_shape_is_kept_as_far_as_it_goes(size: tuple[int, int], near: tuple[int, int]) -> None:
    assert SizeBounds().nearest(*size) == near


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("1000x1000", "divisible by 16; the nearest is '992x992'"),
        ("2048x256", "between 1:3 and 3:1; the nearest is '1248x416'"),
        ("1024x1040", "and 1048576 in all; the nearest is '1024x1024'"),
        ("128x256", "at least 65536 pixels in all; the nearest is '192x368'"),
    ],
)
def test_a_refusal_says_what_is_possible(asked: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"{says}$"):
        SizeBounds(1024 * 1024, 256 * 256).parse(asked)
