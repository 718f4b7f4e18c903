"""How a job stands, as the ledger sees it: its place, and its ETA once the lane has a pace."""

from __future__ import annotations

import pytest

from jobs.job import Job
from jobs.ledger import Outlook
from jobs.sql_ledger import SqlLedger
from serve_app.job_wire import job_body
from tests.contract.ledger_kit import Clock, Database, beat, claim_one, final_beat, picture, wish


def draw(ledger: SqlLedger, clock: Clock, seconds: float) -> None:
    """A job of four GPU-seconds, drawn alone in that time."""
    ledger.submit(wish(cost_seconds=4.0, watched=False))
    job = claim_one(ledger)
    clock.now += seconds
    ledger.finish_render(job.id, job.fence, 0, picture())


def queued(ledger: SqlLedger, cost_seconds: float = 4.0) -> Job:
    return ledger.submit(wish(cost_seconds=cost_seconds, watched=False)).job


def test_the_eta_is_the_work_ahead_at_the_pace_of_the_last_minute(
    ledger: SqlLedger, clock: Clock
) -> None:
    for _ in range(3):
        draw(ledger, clock, 2.0)  # 2 GPU-seconds a second
        clock.now += 5.0
    held = queued(ledger, cost_seconds=8.0)
    first, second = queued(ledger), queued(ledger, cost_seconds=6.0)
    assert ledger.outlook(second.id) == Outlook(2, pytest.approx((8 + 4 + 6) / 2))
    job = claim_one(ledger)
    assert job.id == held.id
    clock.now += 2.0
    ledger.renew([beat(job, 8)], 6.0)  # half of its passes
    assert ledger.outlook(job.id) == Outlook(None, pytest.approx(4 / 2))
    assert ledger.outlook(first.id) == Outlook(0, pytest.approx((4 + 4) / 2))
    assert ledger.outlook(second.id) == Outlook(1, pytest.approx((4 + 4 + 6) / 2))


def test_a_lane_without_a_pace_has_places_and_no_eta(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(2):
        draw(ledger, clock, 2.0)
    assert ledger.outlook(queued(ledger).id) == Outlook(0, None)
    clock.now += 1.0
    draw(ledger, clock, 2.0)
    claim_one(ledger)
    waiting = queued(ledger)
    assert ledger.outlook(waiting.id).eta_seconds is not None
    clock.now += 120.0
    assert ledger.outlook(waiting.id) == Outlook(0, None), "nothing has finished for a minute"


def test_a_job_without_passes_left_has_no_eta(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(3):
        draw(ledger, clock, 2.0)
    queued(ledger)
    job = claim_one(ledger)
    assert ledger.outlook(job.id).eta_seconds is not None
    clock.now += 1.0
    ledger.renew([final_beat(job)], 6.0)
    assert ledger.outlook(job.id) == Outlook()
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert ledger.outlook(job.id) == Outlook()
    assert ledger.outlook("00") == Outlook()


def test_another_lane_has_a_pace_of_its_own(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(3):
        draw(ledger, clock, 2.0)
    elsewhere = ledger.submit(wish(lane="api", watched=False)).job
    assert ledger.outlook(elsewhere.id) == Outlook(0, None)


def test_what_is_not_known_is_not_in_the_json(ledger: SqlLedger) -> None:
    job = queued(ledger)
    assert "eta_seconds" not in job_body(job, 0, {})
    assert job_body(job, 0, {}, 12.345)["eta_seconds"] == 12.3


def test_other_tiers_take_their_share_meanwhile(database: Database, clock: Clock) -> None:
    ledger = database.open(clock=clock)
    for _ in range(3):
        draw(ledger, clock, 2.0)
    job = queued(ledger)
    for _ in range(5):
        ledger.submit(wish(tier="plus", cost_seconds=4.0, watched=False))
    assert ledger.outlook(job.id) == Outlook(1, pytest.approx((4 + 4) / 2))
