"""What the autoscaling bench plays and how it reads what it saw."""

from __future__ import annotations

import pytest

from scripts.autoscaling.__main__ import SHAPES, cold_starts, first_decision, turns
from scripts.autoscaling.lane import Decoders


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_the_same_load_every_time(name: str) -> None:
    due = SHAPES[name].due()
    assert due == SHAPES[name].due() == sorted(due)
    assert due[0] >= 0
    assert due[-1] <= SHAPES[name].seconds
    assert len(SHAPES[name].due(0.5)) == pytest.approx(len(due) / 2, abs=2)


def test_cold_starts_are_from_asking_to_running() -> None:
    seen = [
        Decoders(0.0, 1, 1),
        Decoders(2.0, 3, 1),
        Decoders(3.0, 4, 1),
        Decoders(7.0, 3, 2),  # the fourth was taken back
        Decoders(9.0, 3, 3),
    ]
    assert cold_starts(seen) == [5.0, 7.0]


def test_the_first_decision_counts_from_the_jump() -> None:
    seen = [Decoders(100.0, 1, 1), Decoders(104.0, 2, 1), Decoders(111.5, 5, 2)]
    assert first_decision(seen, 100.0, SHAPES["step"], 1.0) == 1.5
    assert first_decision(seen, 100.0, SHAPES["ramp"], 1.0) is None


def test_turns_are_counted() -> None:
    assert turns([1, 3, 3, 5, 4, 4, 2, 6]) == 2
    assert turns([1]) == 0
