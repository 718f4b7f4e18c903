"""When an image passed its stages, and on which clock."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count

import pytest

from dispatch.in_flight import Lease
from dispatch.stage_times import STAGES, LedgerClock, Passed, StageTimes
from engine.render import RenderUpdate, UpdateKind
from jobs.job import Job
from tests.stages.ledger_kit import wish


def job(fence: int = 1) -> Job:
    return replace(Job.queued("1", wish(), 100.0, None), fence=fence, preemptions=2)


def test_a_stage_lasts_from_the_end_of_the_one_before() -> None:
    times = StageTimes.of(job(), 103.0, attempts=0)
    for at, what in enumerate(Passed, start=1):
        times = times.passed(what, 103.0 + at * at)
    assert times.seconds() == dict(zip(STAGES, [3.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0], strict=True))
    assert times.preemptions == 2


def test_of_a_later_lease_only_what_it_went_through_is_timed() -> None:
    times = StageTimes.of(job(fence=3), 160.0, attempts=1).failed()
    times = times.passed(Passed.ENCODED, 161.0).passed(Passed.SCREENED, 162.0)
    assert times.seconds() == {"encode": 1.0}
    assert (times.lease, times.attempts) == (3, 2)


def test_passes_that_are_drawn_again_count_when_they_were_first_done() -> None:
    times = StageTimes.of(job(), 100.0, attempts=0)
    for what in (Passed.LAST_PASS, Passed.SCREENED):
        times = times.passed(what, 110.0).passed(what, 120.0)
    assert (times.last_pass, times.screened) == (110.0, 120.0)


def test_a_clock_behind_the_ledgers_makes_no_stage_negative() -> None:
    assert StageTimes.of(job(), 90.0, attempts=0).seconds()["queue"] == 0.0


def test_an_image_in_flight_notes_its_passes_and_no_acceptance() -> None:
    now = count(1)
    lease = Lease.of(job(), lambda: next(now))
    (render,) = lease.renders
    render.queue()
    render.state = type(render.state).DISPATCHED
    render.update(RenderUpdate("", UpdateKind.ACCEPTED))
    assert render.times.first_pass is None
    render.update(RenderUpdate("", UpdateKind.PASS, 1))
    render.update(RenderUpdate("", UpdateKind.PASS, 2, decoded=True))
    render.update(RenderUpdate("", UpdateKind.DONE, 2, decoded=True))
    assert (render.times.claimed, render.times.first_pass) == (1.0, 3.0)
    assert render.times.last_pass == 5.0


def test_the_ledgers_clock_is_that_of_first_leases() -> None:
    clock = LedgerClock()
    assert clock.now() == pytest.approx(time.time(), abs=1.0)
    clock.claimed(replace(job(), started_at=5000.0))
    clock.claimed(replace(job(fence=2), started_at=1.0))  # which began long before this claim
    assert 5000.0 <= clock.now() < 5010.0
