"""What a scaling policy learns of its lane: how late jobs are, how long replicas stay idle."""

from __future__ import annotations

import math

import pytest

from autoscaling.policies.drain import Starting
from autoscaling.policies.idle_gaps import IdleGaps
from autoscaling.policies.promise import LEAST, MOST, Promise
from autoscaling.policy import TierLoad


def waits(promise: Promise, wait: float, seconds: int, begin: int = 0) -> None:
    """A queue whose first job leaves each second, having waited so long."""
    for second in range(begin, begin + seconds):
        promise.observe(second, TierLoad(10, 100.0, wait - 1), 60.0)


def test_a_tier_whose_jobs_are_late_is_planned_with_less_than_promised_and_back() -> None:
    promise = Promise()
    waits(promise, 70.0, 10)
    assert LEAST <= promise.scale < 0.9
    waits(promise, 20.0, 5000, begin=10)
    assert promise.scale == MOST


def test_as_many_late_jobs_as_may_be_leave_the_plan_as_it_is() -> None:
    promise = Promise()
    for second in range(2000):
        wait = 70.0 if second % 20 == 0 else 20.0
        promise.observe(second, TierLoad(10, 100.0, wait - 1), 60.0)
    assert promise.scale == pytest.approx(1.0, abs=0.03)


def test_a_burst_that_was_late_is_one_piece_of_evidence_and_an_idle_lane_none() -> None:
    promise = Promise()
    promise.observe(0.0, TierLoad(1000, 1000.0, 80.0), 60.0)
    promise.observe(1.0, None, 60.0, busy=False)
    after = promise.scale
    assert LEAST <= after < 0.9
    for second in range(2, 1000):
        promise.observe(second, None, 60.0, busy=False)
    assert promise.scale == after


def idle(gap: float, times: int) -> IdleGaps:
    """Two of three replicas are not needed for so long, again and again."""
    gaps, at = IdleGaps(), 0.0
    for _ in range(times):
        gaps.observe(at, 3, 3, 10.0, 10.0)
        at += 20.0
        second = 0.0
        while second < gap:
            gaps.observe(at + second, 1, 3, 10.0, 10.0)
            second += 1.0
        at += gap
    gaps.observe(at, 3, 3, 10.0, 10.0)
    return gaps


def test_replicas_are_kept_as_long_as_has_paid() -> None:
    assert idle(math.inf, 0).keep_seconds(10.0) == 10.0  # ski rental, before anything was seen
    assert idle(3.0, 5).keep_seconds(10.0) == 10.0
    assert idle(60.0, 5).keep_seconds(10.0) == 0.0
    assert idle(8.0, 5).keep_seconds(10.0) == 10.0


def test_those_that_start_miss_what_is_left_of_their_cold_start() -> None:
    starting = Starting()
    starting.observe(0.0, 2, 2)
    starting.observe(1.0, 7, 2)
    assert starting.left(4.0, 10.0) == [(5, 7.0)]
    starting.observe(5.0, 9, 4)
    assert starting.left(5.0, 10.0) == [(3, 6.0), (2, 10.0)]
    starting.observe(6.0, 6, 4)
    assert starting.left(6.0, 10.0) == [(2, 5.0)]  # the newest are stopped first
    starting.observe(30.0, 4, 4)
    assert starting.left(30.0, 10.0) == []
