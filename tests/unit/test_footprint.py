"""What fits, and how wide forwards are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.footprint import DoesNotFit, Footprint, buckets, choose_width

GIB = 2**30
SUM = Footprint(
    usable=20 * GIB,
    weights=10 * GIB,
    render=GIB // 2,
    decode=2 * GIB,
    passes={1: GIB, 2: 2 * GIB, 4: 3 * GIB},
)
EQUAL = {1: 0.1, 2: 0.2, 4: 0.4}
"""Seconds of a model that one render fills the chip with."""


def test_the_sum_has_weights_renders_the_forward_and_the_decode() -> None:
    assert SUM.total(slots=4, width=4) == (10 + 2 + 3 + 2) * GIB
    assert SUM.total(slots=4, width=1) == (10 + 2 + 1 + 2) * GIB
    assert SUM.total(slots=1, width=4) == (10 + 0.5 + 1 + 2) * GIB, "one alone is no wide forward"


@pytest.mark.parametrize(("width", "gib"), [(3, 3.0), (8, 5.0), (16, 9.0)])
def test_widths_between_are_rounded_up_and_those_beyond_go_on_in_a_line(
    width: int, gib: float
) -> None:
    assert SUM.pass_bytes(width) == gib * GIB


def test_of_one_width_others_are_its_multiples() -> None:
    assert replace(SUM, passes={1: GIB}).pass_bytes(3) == 3 * GIB


def test_the_refusal_has_the_sum_and_what_would_fit() -> None:
    assert SUM.most_slots(20, 4) == 10
    assert SUM.fits(10, 4)
    assert not SUM.fits(11, 4)
    said = SUM.refusal(20, 4)
    assert said == (
        "slots: 20 do not fit: weights 10 GiB + 20 renders of 512 MiB + a forward of 4 with 3 GiB "
        "+ a decode of 2 GiB = 25 GiB, and this process may hold 20 GiB; 10 would fit"
    )
    nothing = replace(SUM, usable=11 * GIB).refusal(2, 1)
    assert nothing.endswith("not even one fits: take a larger device")


@pytest.mark.parametrize(
    ("seconds", "width"),
    [
        ({1: 0.1, 2: 0.12, 4: 0.2}, 4),
        (EQUAL, 4),
        ({1: 0.1, 2: 0.202, 4: 0.408}, 4),
        ({1: 0.1, 2: 0.18, 4: 0.44}, 2),
        ({1: 0.1, 2: 0.22, 4: 0.5}, 1),
    ],
    ids=["faster", "equal", "hardly slower", "slower at four", "slower"],
)
def test_the_widest_that_draws_nearly_as_fast_as_the_best(
    seconds: dict[int, float], width: int
) -> None:
    assert choose_width(SUM, 4, seconds) == width


def test_a_forward_is_no_wider_than_there_is_room_for() -> None:
    assert choose_width(replace(SUM, usable=int(16.5 * GIB)), 4, EQUAL) == 2
    with pytest.raises(DoesNotFit, match="2 would fit"):
        choose_width(replace(SUM, usable=14 * GIB), 4, EQUAL)


@pytest.mark.parametrize(
    ("most", "widths"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_powers_of_two_and_the_most(most: int, widths: tuple[int, ...]) -> None:
    assert buckets(most) == widths
