"""When a job will be done: only measured, never guessed."""

from __future__ import annotations

import pytest

from jobs.policy.eta import FINISHED_MIN, HeldInterval, held_eta, measured_rate, queued_eta


def test_nothing_is_said_before_a_few_have_finished() -> None:
    finished = [HeldInterval(90.0 + i, 95.0 + i, 1.0) for i in range(FINISHED_MIN)]
    assert measured_rate(finished[:-1], [HeldInterval(90.0, 100.0, 50.0)], 100.0, 40.0) is None
    assert measured_rate(finished, [], 100.0, 40.0) is not None
    assert queued_eta(1.0, [1.0], 1.0, None) is None
    assert held_eta([1.0], [1.0], None) is None


def test_the_rate_does_not_count_time_in_which_nobody_was_served() -> None:
    apart = [HeldInterval(at, at + 2.0, 3.0) for at in (50.0, 70.0, 90.0)]
    assert measured_rate(apart, [], 100.0, 40.0) == pytest.approx(1.5)


def test_jobs_that_are_drawn_together_add_up() -> None:
    together = [HeldInterval(80.0, 90.0, 5.0)] * 4
    assert measured_rate(together, [], 100.0, 40.0) == pytest.approx(2.0)
    running = [HeldInterval(90.0, 100.0, 20.0)]
    assert measured_rate(together, running, 100.0, 40.0) == pytest.approx(2.0)


def test_only_what_was_drawn_in_the_window_counts() -> None:
    long_ago = [HeldInterval(0.0, 80.0, 80.0)] * 3
    assert measured_rate(long_ago, [], 100.0, 40.0) == pytest.approx(3.0)
    assert measured_rate([HeldInterval(0.0, 30.0, 9.0)] * 3, [], 100.0, 40.0) is None


def test_a_job_that_took_no_time_still_counts() -> None:
    intervals = [HeldInterval(50.0, 50.0, 1.0)] * 3
    assert measured_rate(intervals, [], 100.0, 40.0) is None, "no time to divide by"
    assert measured_rate(
        [*intervals, HeldInterval(50.0, 53.0, 3.0)], [], 100.0, 40.0
    ) == pytest.approx(2.0)


def test_a_queued_job_waits_for_all_that_runs_and_all_ahead() -> None:
    assert queued_eta(6.0, [1.0, 1.0], 2.0, 2.0) == pytest.approx(5.0)
    assert queued_eta(0.0, [], 2.0, 2.0) == pytest.approx(1.0)


def test_a_job_in_the_decoders_shares_them_equally() -> None:
    assert held_eta([2.0], [2.0], 1.0) == pytest.approx(2.0)
    assert held_eta([2.0], [2.0, 50.0, 1.0], 1.0) == pytest.approx(5.0)
    assert held_eta([1.0, 2.0], [1.0, 2.0], 1.0) == pytest.approx(3.0)


def test_finishing_is_not_a_matter_of_passes() -> None:
    assert held_eta([0.0], [0.0, 4.0], 1.0) is None
    assert held_eta([], [4.0], 1.0) is None
