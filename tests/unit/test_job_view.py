"""What a watcher hears of: changes, and estimates that time alone does not explain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.depth import QueueEstimate, has_moved
from jobs.job import Job, JobState
from jobs.request import ImageRequest
from serve_app.delivery.watch import JobView

REQUEST = ImageRequest(
    lane="l", tenant="t", tier="free", model="m", prompt="fox", n=1, width=64, height=64,
    quality="low", passes=8, guidance=3.0, seed=1,
)  # fmt: skip
JOB = Job.queued("j", REQUEST, 0.0, None)


@pytest.mark.parametrize(
    ("told", "now", "passed_seconds", "moved"),
    [
        (QueueEstimate(), QueueEstimate(), 100.0, False),
        (QueueEstimate(3, 60.0), QueueEstimate(3, 50.0), 10.0, False),
        (QueueEstimate(3, 60.0), QueueEstimate(2, 50.0), 10.0, True),
        (QueueEstimate(3, 60.0), QueueEstimate(3, 60.0), 10.0, True),
        (QueueEstimate(3, 60.0), QueueEstimate(3, 56.0), 1.0, False),
        (QueueEstimate(3, 60.0), QueueEstimate(3, 40.0), 1.0, True),
        (QueueEstimate(0, 2.0), QueueEstimate(0, 0.0), 1.0, False),
        (QueueEstimate(0, 2.0), QueueEstimate(0, 1.5), 60.0, False),
        (QueueEstimate(0, 2.0), QueueEstimate(0, 2.5), 60.0, True),
        (QueueEstimate(0, None), QueueEstimate(0, 2.0), 1.0, True),
        (QueueEstimate(0, 2.0), QueueEstimate(0, None), 1.0, True),
        (QueueEstimate(None, 1000.0), QueueEstimate(None, 1050.0), 0.0, False),
        (QueueEstimate(None, 1000.0), QueueEstimate(None, 1150.0), 0.0, True),
    ],
)
def test_an_eta_that_falls_with_time_tells_nothing(
    told: QueueEstimate, now: QueueEstimate, passed_seconds: float, moved: bool
) -> None:
    assert has_moved(told, now, passed_seconds) is moved


def test_without_news_the_sight_stays_the_same_object() -> None:
    first = JobView.after(None, JOB, QueueEstimate(1, 50.0), 0.0)
    assert JobView.after(first, replace(JOB), None, 1.0) is first
    assert JobView.after(first, replace(JOB), QueueEstimate(1, 45.0), 5.0) is first
    moved = JobView.after(first, replace(JOB), QueueEstimate(0, 45.0), 5.0)
    assert (moved.estimate, moved.estimated_at) == (QueueEstimate(0, 45.0), 5.0)


def test_slow_drift_is_told_in_the_end() -> None:
    view = JobView.after(None, JOB, QueueEstimate(1, 10.0), 0.0)
    told = []
    for second in range(1, 10):  # nothing is drawn: the ETA stays while the time passes
        after = JobView.after(view, JOB, QueueEstimate(1, 10.0), float(second))
        told.append(after is not view)
        view = after
    assert told == [False, False, True] * 3


def test_an_estimate_of_another_state_is_not_kept() -> None:
    first = JobView.after(None, JOB, QueueEstimate(1, 50.0), 0.0)
    leased = replace(JOB, state=JobState.LEASED)
    assert JobView.after(first, leased, None, 1.0).estimate == QueueEstimate()
    renewed = JobView.after(first, replace(JOB, watched_until=9.0), None, 1.0)
    assert (renewed.estimate, renewed.estimated_at) == (QueueEstimate(1, 50.0), 0.0)


def test_news_of_the_estimate_is_only_for_those_who_want_it() -> None:
    first = JobView.after(None, JOB, QueueEstimate(1), 0.0)
    second = JobView.after(first, JOB, QueueEstimate(0), 1.0)
    assert second.is_news(first, wants_estimate=True)
    assert not second.is_news(first, wants_estimate=False)
