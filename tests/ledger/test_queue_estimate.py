"""How a job stands, as the ledger sees it: its place, and its ETA once the lane has a pace."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy import event, text

from jobs.announcements import SILENT_SECONDS, Announcement
from jobs.client.async_ledger import AsyncLedger
from jobs.db.database import open_database
from jobs.depth import QueueEstimate
from jobs.job import Job
from jobs.sql.sql_ledger import SqlLedger
from serve_app.wire.jobs import job_body
from tests.stages.ledger_kit import (
    Clock,
    Database,
    beat,
    claim_one,
    estimate,
    final_beat,
    picture,
    wish,
)


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
    assert estimate(ledger, second.id) == QueueEstimate(2, pytest.approx((8 + 4 + 6) / 2))
    job = claim_one(ledger)
    assert job.id == held.id
    clock.now += 2.0
    ledger.renew([beat(job, 8)], 6.0)  # half of its passes
    assert estimate(ledger, job.id) == QueueEstimate(None, pytest.approx(4 / 2))
    assert estimate(ledger, first.id) == QueueEstimate(0, pytest.approx((4 + 4) / 2))
    assert estimate(ledger, second.id) == QueueEstimate(1, pytest.approx((4 + 4 + 6) / 2))


def test_a_lane_without_a_pace_has_places_and_no_eta(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(2):
        draw(ledger, clock, 2.0)
    assert estimate(ledger, queued(ledger).id) == QueueEstimate(0, None)
    clock.now += 1.0
    draw(ledger, clock, 2.0)
    claim_one(ledger)
    waiting = queued(ledger)
    assert estimate(ledger, waiting.id).eta_seconds is not None
    clock.now += 120.0
    assert estimate(ledger, waiting.id) == QueueEstimate(0, None), (
        "nothing has finished for a minute"
    )


def test_a_job_without_passes_left_has_no_eta(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(3):
        draw(ledger, clock, 2.0)
    queued(ledger)
    job = claim_one(ledger)
    assert estimate(ledger, job.id).eta_seconds is not None
    clock.now += 1.0
    ledger.renew([final_beat(job)], 6.0)
    assert estimate(ledger, job.id) == QueueEstimate()
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert estimate(ledger, job.id) == QueueEstimate()
    assert estimate(ledger, "00") == QueueEstimate()


def test_another_lane_has_a_pace_of_its_own(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(3):
        draw(ledger, clock, 2.0)
    elsewhere = ledger.submit(wish(lane="api", watched=False)).job
    assert estimate(ledger, elsewhere.id) == QueueEstimate(0, None)


def test_a_model_without_a_decoder_says_when_the_first_one_will_have_drawn(
    ledger: SqlLedger, clock: Clock
) -> None:
    model = Announcement(
        lane="chat", name="photo", queue="chat", family="paced", capabilities={}, guidance=1.0,
        size="64x64", qualities={}, pass_seconds=0.1, identity="",
    )  # fmt: skip
    at_zero = replace(model, start_seconds=30.0)
    held, waiting = queued(ledger, cost_seconds=6.0), queued(ledger)
    assert claim_one(ledger).id == held.id
    clock.now += 2.0
    ledger.announce(at_zero, ready=True)
    assert estimate(ledger, held.id) == QueueEstimate(None, 30.0 + 6.0), "as predicted"
    assert estimate(ledger, waiting.id) == QueueEstimate(0, 30.0 + 6.0 + 4.0)
    clock.now += SILENT_SECONDS
    assert estimate(ledger, waiting.id).eta_seconds is None, (
        "none starts while its dispatcher is away"
    )
    ledger.announce(at_zero, ready=True)
    clock.now += 2.0
    ledger.announce(model, ready=True)
    assert estimate(ledger, waiting.id).eta_seconds is None, "one draws, and has no pace yet"


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
    assert estimate(ledger, job.id) == QueueEstimate(1, pytest.approx((4 + 4) / 2))


def load(database: Database, jobs: int) -> SqlLedger:
    """A ledger with so many free jobs queued, with equal and with different stamps."""
    ledger = database.open()
    ledger.submit(wish(cost_seconds=4.0, watched=False))  # makes the lane
    random_id = {"postgresql": "md5(i || 'x')", "sqlite": "lower(hex(randomblob(16)))"}
    engine = open_database(database.url)
    with closing(engine), engine.durable.begin() as connection:
        connection.execute(text(LOAD.replace("RANDOM", random_id[database.kind])), {"n": jobs})
    return ledger


LOAD = """insert into jobs (id, lane, tier, tenant, state, vft, cost_seconds, fence, attempts,
        cancel_requested, created_at, deadline_at, day, body_hash, errors, request)
    with recursive n(i) as (select 1 union all select i + 1 from n where i < :n)
    select RANDOM, 'chat', 'free', 't' || (i % 997), 'queued', 5.0 + (i % 3), 4.0, 0, 0, false, 0.0,
        9e12, '2025-03-26', '', '[]', '{}' from n"""


def test_a_place_far_back_is_estimated_and_one_near_the_head_counted(database: Database) -> None:
    jobs = 12_000
    ledger = load(database, jobs)
    opened = open_database(database.url)
    ranked = "select id from jobs where state = 'queued' order by vft, seq"
    with closing(opened), opened.reader.begin() as connection:
        ids = list(connection.execute(text(ranked)).scalars())
    for rank in (0, 1, 250, 499):
        assert estimate(ledger, ids[rank]).position == rank
    for rank in (600, 2_000, 7_777, jobs):
        place = estimate(ledger, ids[rank]).position
        assert place is not None
        assert abs(place - rank) < 5 * 8 * rank**0.5 + 64, "five deviations"
    depth = ledger.depth("chat")
    assert abs(depth.queued_jobs - jobs) < 5 * 8 * jobs**0.5
    assert depth.waiting_seconds == pytest.approx(4.0 * depth.queued_jobs)


def test_thousands_who_ask_together_cost_as_many_queries_as_one(database: Database) -> None:
    ledger = database.open()
    ids = [ledger.submit(wish(tenant=f"t{i}", watched=False)).job.id for i in range(200)]
    statements: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        statements.append(statement)

    reader = ledger._database.reader
    event.listen(reader, "before_cursor_execute", note)
    ledger.estimates(ids[:1])
    for_one = len(statements)
    statements.clear()
    estimates = ledger.estimates(ids)
    assert [estimates[job_id].position for job_id in ids] == list(range(200))
    assert len(statements) <= for_one
    assert for_one <= 7
    event.remove(reader, "before_cursor_execute", note)


async def test_watchers_that_ask_at_the_same_time_are_answered_together(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = database.open()
    together: list[int] = []
    read = inner.estimates

    def noted(job_ids: Sequence[str]) -> dict[str, QueueEstimate]:
        together.append(len(job_ids))
        return read(job_ids)

    monkeypatch.setattr(inner, "estimates", noted)
    ledger = AsyncLedger(inner)
    ids = [(await ledger.submit(wish(tenant=f"t{i}"))).job.id for i in range(60)]
    estimates = await asyncio.gather(*(ledger.estimate(job_id) for job_id in ids))
    assert [one.position for one in estimates] == list(range(60))
    assert sum(together) == 60
    assert len(together) < 30
    await asyncio.to_thread(ledger.close)
