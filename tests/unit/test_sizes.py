"""The size that an edit has by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from serve_app.config.sizes import MAX_PIXELS, nearest_size, parse_size

edges = some.integers(1, 10_000)


@given(edges, edges, some.integers(256, MAX_PIXELS))
def test_every_picture_has_an_allowed_size(width: int, height: int, most: int) -> None:
    near = nearest_size(width, height, most)
    assert parse_size("{}x{}".format(*near), most) == near


@given(some.integers(1, 240), some.integers(1, 240))
def test_what_is_allowed_stays(columns: int, rows: int) -> None:
    size = columns * 16, rows * 16
    try:
        parse_size("{}x{}".format(*size))
    except ValueError:
        return
    assert nearest_size(*size) == size


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
    assert nearest_size(*size) == near
