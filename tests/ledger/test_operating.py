"""Jobs of all tenants as operators list them, a job that is tried again, and what was used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from jobs.db.compiled import send
from jobs.job import IllegalTransition, Job, JobState, RenderState
from jobs.lease import Beat, Outcome, RenderBeat
from jobs.ledger_errors import LeaseLost
from jobs.operating import JobFilter, JobOrder, JobPlace
from jobs.request import SourceImage, Tenant
from jobs.retention import Retention, Step
from jobs.sql.sql_ledger import SqlLedger
from jobs.usage import DAY_SECONDS, HOUR_SECONDS, UsageQuery, Used, UsedBy
from tests.ledger.test_every_state import BECOMES
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    final_beat,
    picture,
    refusal,
    wait_while_rescuing,
    wish,
)

FAILED = Outcome(RenderState.FAILED, error="the decoder gave up")
LONG_AGO, LATER = 0.0, 10.0 * DAY_SECONDS


def pages(ledger: SqlLedger, wanted: JobFilter, limit: int = 2) -> Iterator[list[Job]]:
    place: JobPlace | None = None
    while True:
        page = ledger.find_jobs(wanted, limit, place)
        yield [found.job for found in page.found]
        if (place := page.next) is None:
            return


def ids(ledger: SqlLedger, **wanted: Any) -> list[str]:
    return [job.id for page in pages(ledger, JobFilter(**wanted)) for job in page]


def submitted(ledger: SqlLedger, clock: Clock, **changes: Any) -> str:
    clock.now += 1
    return ledger.submit(wish(watched=False, **changes)).job.id


def failed(ledger: SqlLedger, clock: Clock, **changes: Any) -> str:
    submitted(ledger, clock, **changes)
    job = claim_one(ledger)
    for render in job.renders:
        ledger.finish_render(job.id, job.fence, render.index, FAILED)
    return job.id


def test_lists_go_page_by_page(ledger: SqlLedger, clock: Clock) -> None:
    made = [submitted(ledger, clock, tenant=t) for t in ("ada", "bob", "ada", "bob", "ada")]
    elsewhere = submitted(ledger, clock, lane="api")
    assert [len(page) for page in pages(ledger, JobFilter())] == [2, 2, 2]
    assert ids(ledger) == [elsewhere, *reversed(made)]
    assert ids(ledger, tenant="ada") == [elsewhere, made[4], made[2], made[0]]
    assert ids(ledger, queue="chat", tenant="bob") == [made[3], made[1]]
    assert ids(ledger, order=JobOrder.WAITING) == [*made, elsewhere]
    assert ids(ledger, tenant="carol") == []


@pytest.mark.parametrize("state", JobState)
def test_every_state_is_found(ledger: SqlLedger, clock: Clock, state: JobState) -> None:
    other = submitted(ledger, clock, lane="api", tenant="bob")
    job_id = ledger.submit(wish(watched=False, deadline_seconds=100.0)).job.id
    BECOMES[state](ledger, clock)
    mine = [job_id, other] if state is JobState.QUEUED else [job_id]
    assert sorted(ids(ledger, states=frozenset({state}))) == sorted(mine)
    assert ids(ledger, states=frozenset({state}), queue="api") == mine[1:]
    assert job_id not in ids(ledger, states=frozenset(JobState) - {state})


def test_the_longest_running_comes_first(ledger: SqlLedger, clock: Clock) -> None:
    for _ in range(3):
        submitted(ledger, clock)
    held = []
    for _ in range(3):
        clock.now += 1
        held.append(claim_one(ledger))
    ledger.renew([beat(held[0], 3), final_beat(held[1])], LEASE_SECONDS)
    running = {"order": JobOrder.RUNNING}
    assert ids(ledger, **running) == [job.id for job in held]
    assert ids(ledger, **running, states=frozenset({JobState.RUNNING})) == [held[0].id]
    assert ids(ledger, **running, states=frozenset({JobState.FINISHING})) == [held[1].id]
    assert ids(ledger, **running, states=frozenset({JobState.LEASED})) == [held[2].id]
    first = ledger.find_jobs(JobFilter(**running), 1).found[0]
    assert (first.job.worker, first.lease_until) == ("w1", clock.now + LEASE_SECONDS)


def test_those_that_failed_since(ledger: SqlLedger, clock: Clock) -> None:
    early = failed(ledger, clock)
    since = clock.now + 0.5
    late = failed(ledger, clock)
    submitted(ledger, clock)
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert ids(ledger, order=JobOrder.FAILED) == [late, early]
    assert ids(ledger, order=JobOrder.FAILED, since=since) == [late]


@pytest.mark.parametrize("order", [JobOrder.NEWEST, JobOrder.WAITING])
def test_a_page_looks_at_so_many_jobs(
    ledger: SqlLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch, order: JobOrder
) -> None:
    monkeypatch.setattr("jobs.sql.operating.SCANNED", 3)
    rare = [submitted(ledger, clock, lane="rare") for _ in range(2)]
    common = [submitted(ledger, clock) for _ in range(6)]
    last = submitted(ledger, clock, lane="rare")
    found = list(pages(ledger, JobFilter(order=order, queue="rare"), limit=5))
    assert [len(page) for page in found] == ([1, 0, 2, 0] if order == "newest" else [2, 0, 1, 0])
    assert {job.id for page in found for job in page} == {*rare, last}
    assert len(ids(ledger, order=order, queue="chat")) == len(common)


def test_a_failed_job_waits_again(ledger: SqlLedger, clock: Clock) -> None:
    first = submitted(ledger, clock, n=2)
    behind = submitted(ledger, clock)
    job = claim_one(ledger)
    blocked_and_failed = ledger.finish_render(job.id, job.fence, 0, refusal("output"))
    assert blocked_and_failed.state is not JobState.FAILED
    assert ledger.finish_render(job.id, job.fence, 1, FAILED).state is JobState.FAILED
    used = ledger.standing(Tenant("ada", "free"), "chat").usage.used
    assert used == 2, "the failed image was given back"
    clock.now += 50
    again = ledger.requeue(first)
    assert again == ledger.get(first)
    assert again is not None
    assert [render.state for render in again.renders] == ["blocked", "waiting"]
    assert (again.state, again.attempts, again.finished_at) == ("queued", 0, None)
    assert again.deadline_at == clock.now + 86_400.0
    assert ledger.standing(Tenant("ada", "free"), "chat").usage.used == 3
    with pytest.raises(LeaseLost):
        ledger.finish_render(job.id, job.fence, 1, picture())
    held = claim_one(ledger)
    assert held.id == first, "at its place by its order of arrival"
    assert ledger.finish_render(held.id, held.fence, 1, picture()).state is JobState.SUCCEEDED
    assert claim_one(ledger).id == behind


def test_what_fails_again_is_given_back_once_more(ledger: SqlLedger, clock: Clock) -> None:
    job_id = failed(ledger, clock)
    for _ in range(2):
        clock.now += DAY_SECONDS  # quota is that of the day on which it goes back
        ledger.requeue(job_id)
        assert ledger.standing(Tenant("ada", "free"), "chat").usage.used == 1
        job = claim_one(ledger)
        ledger.finish_render(job.id, job.fence, 0, FAILED)
        assert ledger.standing(Tenant("ada", "free"), "chat").usage.used == 0


def test_an_expired_job_waits_again(ledger: SqlLedger, clock: Clock) -> None:
    job_id = submitted(ledger, clock, deadline_seconds=5.0)
    wait_while_rescuing(ledger, clock, 10)
    again = ledger.requeue(job_id)
    assert again is not None
    assert again.state is JobState.QUEUED
    assert claim_one(ledger).id == job_id


@pytest.mark.parametrize("state", JobState)
def test_only_what_failed_or_expired_is_tried_again(
    ledger: SqlLedger, clock: Clock, state: JobState
) -> None:
    job_id = ledger.submit(wish(watched=False, deadline_seconds=100.0)).job.id
    BECOMES[state](ledger, clock)
    before = ledger.get(job_id)
    if state in (JobState.FAILED, JobState.EXPIRED):
        assert ledger.requeue(job_id) is not None
        return
    with pytest.raises(IllegalTransition, match=f"requeue in state {state}"):
        ledger.requeue(job_id)
    assert ledger.get(job_id) == before
    assert ledger.requeue("0" * 32) is None


def test_what_is_deleted_is_not_drawn_again(ledger: SqlLedger, clock: Clock) -> None:
    source = SourceImage(canvas="inputs/file-a/canvas", redraw="ff")
    edit, old = failed(ledger, clock, source=source), failed(ledger, clock)
    with pytest.raises(IllegalTransition, match="goes on from is deleted"):
        ledger.requeue(edit)
    clock.now += 100
    batch = ledger.retire("chat", Step.IMAGES, Retention(images_seconds=50))
    assert batch is not None
    ledger.retired("chat", batch)
    with pytest.raises(IllegalTransition, match="retention"):
        ledger.requeue(old)


# -- usage


def spent(ledger: SqlLedger, outcome: Outcome, gpu_seconds: float, **changes: Any) -> None:
    ledger.submit(wish(watched=False, **changes))
    job = claim_one(ledger)
    for render in job.renders:
        used = replace(outcome, gpu_seconds=gpu_seconds, joules=gpu_seconds * 100)
        ledger.finish_render(job.id, job.fence, render.index, used)


def test_usage_adds_up(ledger: SqlLedger, clock: Clock) -> None:
    clock.now = 10 * DAY_SECONDS + 30.0
    spent(ledger, picture(), 2.0, n=2)
    spent(ledger, picture(), 3.0, tenant="bob", model="photos")
    clock.now += HOUR_SECONDS
    spent(ledger, FAILED, 1.0)
    clock.now += DAY_SECONDS
    spent(ledger, picture(), 5.0, width=512)
    everything = UsageQuery(LONG_AGO, 2e9)
    assert ledger.usage(everything) == [UsedBy(Used(4, 3, 13.0, 1300.0))]
    assert ledger.usage(replace(everything, by=frozenset({"tenant"}))) == [
        UsedBy(Used(3, 2, 10.0, 1000.0), tenant="ada"),
        UsedBy(Used(1, 1, 3.0, 300.0), tenant="bob"),
    ]
    by_day = replace(everything, bucket_seconds=DAY_SECONDS, by=frozenset({"model", "size"}))
    assert ledger.usage(by_day) == [
        UsedBy(Used(2, 1, 5.0, 500.0), 10 * DAY_SECONDS, model="tokens", size="256x256"),
        UsedBy(Used(1, 1, 3.0, 300.0), 10 * DAY_SECONDS, model="photos", size="256x256"),
        UsedBy(Used(1, 1, 5.0, 500.0), 11 * DAY_SECONDS, model="tokens", size="512x256"),
    ]
    bobs = replace(everything, only={"tenant": ["bob", "carol"]})
    assert ledger.usage(bobs) == [UsedBy(Used(1, 1, 3.0, 300.0))]
    assert ledger.usage(replace(everything, end=10.0 * DAY_SECONDS)) == []
    first = replace(everything, bucket_seconds=HOUR_SECONDS, end=10.0 * DAY_SECONDS + HOUR_SECONDS)
    assert [one.used.images for one in ledger.usage(first)] == [3]


def test_it_outlives_the_jobs_but_not_the_tenant(ledger: SqlLedger, clock: Clock) -> None:
    spent(ledger, picture(), 2.0)
    spent(ledger, picture(), 2.0, tenant="bob")
    clock.now += 100
    ledger.forget(ledger.job_ids("ada", 10))
    assert ledger.usage(UsageQuery(LONG_AGO, 2e9))[0].used.images == 2
    ledger.forget_tenant("ada")
    assert ledger.usage(UsageQuery(LONG_AGO, 2e9))[0].used.images == 1


def test_old_hours_become_days(database: Database, clock: Clock) -> None:
    """Whichever processes do it, and nothing is counted twice or lost."""
    clock.now = 10.0 * DAY_SECONDS
    ledgers = [database.open(clock=clock) for _ in range(2)]
    for number in range(6):
        spent(ledgers[number % 2], picture(), 1.0, tenant=f"tenant {number % 2}")
        clock.now += 6 * HOUR_SECONDS
    by_hour = UsageQuery(LONG_AGO, 2e9, by=frozenset({"tenant"}), bucket_seconds=HOUR_SECONDS)
    by_day = replace(by_hour, bucket_seconds=DAY_SECONDS)
    before = ledgers[0].usage(by_day)
    assert len(ledgers[0].usage(by_hour)) == 6
    assert not ledgers[0].compact_usage(), "nothing is old"
    clock.now += 40 * DAY_SECONDS
    spent(ledgers[0], picture(), 1.0, tenant="new")
    assert [ledgers[number % 2].compact_usage() for number in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    assert ledgers[0].usage(by_day)[:-1] == before
    assert [one.start for one in ledgers[0].usage(by_hour)[:-1]] == [one.start for one in before]


def test_what_earlier_holders_spent_counts_once(ledger: SqlLedger, clock: Clock) -> None:
    """Also of a render that is cancelled, and of one that an operator sends back."""
    everything = UsageQuery(LONG_AGO, 2e9)
    submitted(ledger, clock)
    job = claim_one(ledger)
    told = RenderBeat(0, RenderState.RENDERING, 3, b"c", life="[]", gpu_seconds=1.5)
    ledger.renew([Beat(job.id, job.fence, (told,))], LEASE_SECONDS)
    ledger.release(job.id, job.fence)
    held = claim_one(ledger)
    assert (held.renders[0].gpu_seconds, held.renders[0].life) == (1.5, "[]")
    assert ledger.usage(everything) == []
    failing = replace(FAILED, gpu_seconds=4.0)
    ledger.finish_render(held.id, held.fence, 0, failing)
    assert ledger.usage(everything)[0].used == Used(0, 0, 4.0)
    ledger.requeue(held.id)
    held = claim_one(ledger)
    ledger.finish_render(held.id, held.fence, 0, replace(picture(), gpu_seconds=2.0))
    assert ledger.usage(everything)[0].used == Used(1, 1, 6.0)

    submitted(ledger, clock)
    job = claim_one(ledger)
    ledger.renew([Beat(job.id, job.fence, (told,))], LEASE_SECONDS)
    ledger.cancel(job.id)
    ledger.renew([Beat(job.id, job.fence, ())], LEASE_SECONDS)
    assert ledger.usage(everything)[0].used == Used(1, 1, 7.5)


def test_a_finish_takes_as_many_statements_as_its_job_needs(database: Database) -> None:
    """Usage takes the place of looking for parked jobs: reads, the job, lease, image, usage; and
    no usage for an image that is not the last one of its job."""
    ledger = database.open()
    ledger.submit(wish(watched=False, n=2))
    job = claim_one(ledger)
    said: list[str] = []
    real = send

    def counted(connection: Connection, *asked: Any) -> Any:
        said.extend(str(statement).split()[0] for statement, _ in asked)
        return real(connection, *asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.sql.records.send", counted)
        for index in range(2):
            ledger.finish_render(job.id, job.fence, index, picture())
    reads = ["select"] * (2 if database.kind == "sqlite" else 3)
    assert said == [*reads, "update", "update", *reads, "update", "delete", "update", "insert"]
