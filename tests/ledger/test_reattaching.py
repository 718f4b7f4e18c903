"""Which job a retry finds, and what its answer promises of that job: whatever the first order was,
and other users of the same API key."""

from __future__ import annotations

import pytest

from jobs.job import Job, JobState
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    beat,
    claim_one,
    picture,
    wait_while_rescuing,
    wish,
)

GRACE, TERM, DAY = 120.0, 600.0, 86_400.0
SYNC = {"watched": True, "deadline_seconds": 3600.0}
STREAM = {"watched": True, "deadline_seconds": 3600.0, "partial_images": 2}
ASYNC = {"watched": False, "deadline_seconds": DAY}
KINDS = {"plain": SYNC, "stream": STREAM, "async": ASYNC}
BY_KEY, BY_BODY = {"idempotency_key": "k1"}, {"retry_count": 1}
RETRY = wish(body_hash="aa", retry_count=1)


def stored(ledger: SqlLedger, job: Job) -> Job:
    found = ledger.get(job.id)
    assert found is not None
    return found


def left(ledger: SqlLedger, job: Job) -> None:
    """Its client's connection is gone, and its gateway has seen it."""
    ledger.unwatch({job.id: stored(ledger, job).watched_until or 0.0}, GRACE)


@pytest.mark.parametrize("by", [BY_KEY, BY_BODY], ids=["by key", "by body"])
@pytest.mark.parametrize("again", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_what_an_answer_promises(
    first: str, again: str, by: dict[str, object], ledger: SqlLedger, clock: Clock
) -> None:
    """An order is the same by stream or not: its gateway reads the same job."""
    asked = {"body_hash": "aa", **by}
    job = ledger.submit(wish(**KINDS[first], **{**asked, "retry_count": 0})).job
    left(ledger, job)
    clock.now += 100
    submission = ledger.submit(wish(**KINDS[again], **asked))
    assert (submission.job.id, submission.reattached) == (job.id, True)
    assert submission.job == stored(ledger, job)
    watched = "async" not in (first, again)
    assert submission.job.watched_until == (clock.now + TERM if watched else None)
    deadlines = job.deadline_at, clock.now + wish(**KINDS[again]).deadline_seconds
    assert submission.job.deadline_at == max(deadlines)
    ledger.watch([job.id], TERM)  # a connection of the first order may still be open
    left(ledger, job)
    wait_while_rescuing(ledger, clock, 2 * TERM, every=100)
    assert stored(ledger, job).ended == watched


def test_an_async_order_that_rejoins_a_running_job(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(body_hash="aa"))
    job = claim_one(ledger)
    ledger.submit(wish(body_hash="aa", retry_count=1, watched=False))
    for pass_no in range(1, 15):
        clock.now += 100
        (renewal,) = ledger.renew([beat(job, pass_no)], LEASE_SECONDS)
        ledger.expire()
        assert not renewal.cancelled
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert stored(ledger, job).state is JobState.SUCCEEDED


def test_equal_async_orders_without_an_answer_find_a_job_each(
    ledger: SqlLedger, clock: Clock
) -> None:
    def tick(retry_count: int) -> str:
        clock.now += 0.1
        request = wish(body_hash="aa", retry_count=retry_count, watched=False)
        return ledger.submit(request).job.id

    jobs = {tick(0) for _ in range(3)}
    assert {tick(1) for _ in range(3)} == jobs
    ledger.answered(sorted(jobs))
    assert {tick(1) for _ in range(3)} == jobs, "and those whose answers were lost"
    clock.now += 11
    assert tick(1) not in jobs


# -- several users of one key


def test_a_retry_takes_the_job_whose_client_has_left(ledger: SqlLedger, clock: Clock) -> None:
    jobs = []
    for _ in range(3):
        clock.now += 1
        jobs.append(ledger.submit(wish(body_hash="aa")).job)
    left(ledger, jobs[1])
    clock.now += 1
    assert ledger.submit(RETRY).job.id == jobs[1].id


def test_a_retry_takes_the_job_whose_gateway_is_silent(ledger: SqlLedger, clock: Clock) -> None:
    silent = ledger.submit(wish(body_hash="aa")).job
    waited_for = ledger.submit(wish(body_hash="aa")).job
    for _ in range(3):
        clock.now += 30
        ledger.watch([waited_for.id], TERM)
    assert ledger.submit(RETRY).job.id == silent.id


def test_a_retry_is_of_its_own_kind(ledger: SqlLedger, clock: Clock) -> None:
    """Another one is taken only where there is none."""
    in_background = wish(body_hash="aa", retry_count=1, watched=False)
    sync = ledger.submit(wish(body_hash="aa")).job
    assert ledger.submit(in_background).job.id == sync.id
    unwatched = sync
    clock.now += 1
    sync = ledger.submit(wish(body_hash="aa")).job
    clock.now += 1
    assert ledger.submit(RETRY).job.id == sync.id
    assert ledger.submit(in_background).job.id == unwatched.id


def test_an_order_leaves_the_job_that_it_shares(ledger: SqlLedger, clock: Clock) -> None:
    """A retry may be another user's, whose first try never arrived: it cannot be known."""
    job = ledger.submit(wish(body_hash="aa")).job
    clock.now += 10
    assert ledger.submit(RETRY).job.id == job.id
    withdrawn = ledger.withdraw(job.id)
    assert withdrawn is not None
    assert not withdrawn.cancel_requested
    assert stored(ledger, job).state is JobState.QUEUED
    ledger.withdraw(job.id)
    assert stored(ledger, job).state is JobState.CANCELLED
    assert ledger.withdraw(job.id) == stored(ledger, job)


def test_cancelling_asks_nobody(ledger: SqlLedger) -> None:
    job = ledger.submit(wish(body_hash="aa")).job
    ledger.submit(RETRY)
    ledger.cancel(job.id)
    assert stored(ledger, job).state is JobState.CANCELLED


@pytest.mark.parametrize("how", ["its client left", "its gateway died", "by its key", "once"])
def test_an_order_that_nobody_shares_is_cancelled_at_once(
    how: str, ledger: SqlLedger, clock: Clock
) -> None:
    by = BY_KEY if how == "by its key" else BY_BODY
    job = ledger.submit(wish(body_hash="aa", **{**by, "retry_count": 0})).job
    if how == "its client left":
        left(ledger, job)
    if how == "its gateway died":
        clock.now += 61
    if how != "once":
        assert ledger.submit(wish(body_hash="aa", **by)).job.id == job.id
    ledger.withdraw(job.id)
    assert stored(ledger, job).state is JobState.CANCELLED


@pytest.mark.parametrize("other", [{"lane": "api"}, {"model": "another"}], ids=["lane", "model"])
@pytest.mark.parametrize("by", [BY_KEY, BY_BODY], ids=["by key", "by body"])
def test_another_lane_or_model_is_another_order(
    other: dict[str, object], by: dict[str, object], ledger: SqlLedger
) -> None:
    ours = wish(body_hash="aa", **by)
    theirs = wish(body_hash="aa", **by, **other)
    job = ledger.submit(ours).job
    submission = ledger.submit(theirs)
    assert (submission.reattached, submission.job.id != job.id) == (False, True)
    if other.get("lane"):
        assert ledger.submit(ours).job.id == job.id
    assert ledger.submit(theirs).job.id == submission.job.id
