"""What becomes of replicas that were asked for."""

from __future__ import annotations

import pytest

from autoscaling.cold_start import ColdStarts


def starts() -> ColdStarts:
    return ColdStarts(guess_seconds=10.0, late_seconds=60.0)


def test_a_cold_start_is_measured_from_asking_to_running() -> None:
    seen = starts()
    seen.look(0.0, target=1, running=1)
    assert seen.seconds == 10.0
    seen.look(5.0, target=3, running=1)
    seen.look(9.0, target=3, running=2)
    assert seen.seconds == 10.0  # the third, which completes what was asked for, is not here yet
    seen.look(11.0, target=3, running=3)
    assert seen.seconds == 6.0


def test_later_cold_starts_count_half() -> None:
    seen = starts()
    seen.look(0.0, 1, 1)
    for begin, took in ((10.0, 4.0), (30.0, 8.0)):
        seen.look(begin, 2, 1)
        seen.look(begin + took, 2, 2)
        seen.look(begin + took + 1, 1, 1)
    assert seen.seconds == 6.0


def test_what_was_taken_back_is_not_measured() -> None:
    seen = starts()
    seen.look(0.0, 1, 1)
    seen.look(1.0, 4, 1)
    seen.look(2.0, 2, 1)
    seen.look(50.0, 2, 2)
    assert seen.seconds == 10.0


def test_a_new_policy_measures_nothing_that_was_asked_for_before_it() -> None:
    seen = starts()
    seen.look(0.0, 4, 1)
    seen.look(2.0, 4, 4)
    assert seen.seconds == 10.0


def test_replicas_are_late_when_none_came_for_long() -> None:
    seen = starts()
    seen.look(0.0, 1, 1)
    seen.look(10.0, 5, 1)
    seen.look(69.0, 5, 1)
    assert not seen.late(69.0)
    assert seen.late(70.0)
    seen.look(71.0, 6, 1)  # asking for more does not make those missing younger
    assert seen.late(71.0)
    seen.look(80.0, 6, 2)  # one came: the others may be on their way
    assert not seen.late(80.0)
    assert seen.missing_seconds(90.0) == 10.0
    seen.look(95.0, 2, 2)
    assert seen.missing_seconds(1e9) == 0.0


@pytest.mark.parametrize("late_seconds", [0.0, 15.0])
def test_slow_nodes_have_the_time_that_they_were_seen_to_need(late_seconds: float) -> None:
    seen = ColdStarts(10.0, late_seconds)
    seen.look(0.0, 1, 1)
    seen.look(0.0, 2, 1)
    seen.look(300.0, 2, 2)
    seen.look(310.0, 3, 2)
    assert not seen.late(900.0)
    assert seen.late(910.0)
