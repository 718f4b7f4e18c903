"""After which passes previews are taken."""

from __future__ import annotations

import itertools

import pytest

from jobs.request import preview_passes


@pytest.mark.parametrize(
    ("passes", "wanted", "expected"),
    [(16, 3, (2, 8, 13)), (16, 2, (4, 12)), (16, 1, (8,)), (8, 3, (1, 4, 6)), (4, 3, (1, 2, 3))],
)
def test_previews_come_in_the_middle_of_equal_parts(
    passes: int, wanted: int, expected: tuple[int, ...]
) -> None:
    assert preview_passes(passes, wanted) == expected


def test_there_are_as_many_previews_as_were_asked_for_and_none_is_the_picture() -> None:
    for passes, wanted in itertools.product(range(1, 60), range(4)):
        found = preview_passes(passes, wanted)
        assert found == tuple(sorted(set(found)))
        assert all(0 < number < passes for number in found)
        assert len(found) == wanted or passes <= wanted
