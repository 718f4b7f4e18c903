"""The Ledger's contract, second part: quota, retries, leases that lapse, deadlines, watchers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest

from jobs.job import Job, JobState, RenderState
from jobs.lease import Beat, Outcome, RenderBeat
from jobs.ledger import Ledger
from jobs.ledger_errors import IdempotencyMismatch, LeaseLost, QuotaExceeded
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    estimate,
    final_beat,
    picture,
    refusal,
    wait_while_rescuing,
    wish,
)


def stored(ledger: Ledger, job: Job) -> Job:
    found = ledger.get(job.id)
    assert found is not None
    return found


def left(ledger: SqlLedger, per_day: int) -> int:
    """How many more images the quota lets through today; takes them."""
    ledger.tiers = {"free": Tier(images_per_day=per_day)}
    taken = 0
    try:
        while True:
            ledger.submit(wish())
            taken += 1
    except QuotaExceeded:
        return taken


# -- quota


def test_quota_counts_images_and_takes_all_or_nothing(database: Database, clock: Clock) -> None:
    ledger = database.open(clock=clock, tiers={"free": Tier(images_per_day=5)})
    ledger.submit(wish(n=4))
    with pytest.raises(QuotaExceeded, match="2 more images asked for, 4 of 5 used"):
        ledger.submit(wish(n=2))
    with pytest.raises(QuotaExceeded):
        ledger.submit(wish(n=6, tenant="new"))
    assert ledger.depth("chat").queued_jobs == 1
    ledger.submit(wish(n=1))
    ledger.submit(wish(n=5, tenant="bob"))
    ledger.submit(wish(n=9, tier="pro"))
    clock.now += 86_400
    ledger.submit(wish(n=5))


def test_quota_is_exact_under_concurrency(database: Database) -> None:
    ledgers = [database.open(tiers={"free": Tier(images_per_day=7)}) for _ in range(2)]
    accepted: list[Job] = []
    refused: list[QuotaExceeded] = []

    def ask(ledger: Ledger) -> None:
        for _ in range(5):
            try:
                accepted.append(ledger.submit(wish()).job)
            except QuotaExceeded as error:
                refused.append(error)

    in_threads([partial(ask, ledgers[i % 2]) for i in range(8)])
    assert (len(accepted), len(refused)) == (7, 33)
    assert ledgers[0].depth("chat").queued_jobs == 7


def in_threads(calls: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ends_cancelled_in_the_queue(ledger: SqlLedger) -> None:
    ledger.cancel(ledger.recent("ada", 1)[0].id)


def ends_cancelled_early(ledger: SqlLedger) -> None:
    job = claim_one(ledger)
    ledger.cancel(job.id)
    ledger.renew([beat(job, 4)], LEASE_SECONDS)


def ends_cancelled_late(ledger: SqlLedger) -> None:
    job = claim_one(ledger)
    ledger.cancel(job.id)
    ledger.renew([beat(job, 5)], LEASE_SECONDS)


def ends_cancelled_after_a_preview(ledger: SqlLedger) -> None:
    job = claim_one(ledger)
    ledger.cancel(job.id)
    ledger.renew([beat(job, 2, previews=(2,))], LEASE_SECONDS)


def ends_blocked_by_its_prompt(ledger: SqlLedger) -> None:
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, refusal("input"))


def ends_blocked_by_its_picture(ledger: SqlLedger) -> None:
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, refusal("output"))


def ends_failed(ledger: SqlLedger) -> None:
    for _ in range(3):
        job = claim_one(ledger)
        ledger.release(job.id, job.fence, error="out of memory")
    assert ledger.recent("ada", 1)[0].state is JobState.FAILED


def ends_well(ledger: SqlLedger) -> None:
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())


@pytest.mark.parametrize(
    ("end", "given_back"),
    [
        (ends_cancelled_in_the_queue, True),
        (ends_cancelled_early, True),
        (ends_cancelled_late, False),
        (ends_cancelled_after_a_preview, False),
        (ends_blocked_by_its_prompt, True),
        (ends_blocked_by_its_picture, False),
        (ends_failed, True),
        (ends_well, False),
    ],
)
def test_refunds(ledger: SqlLedger, end: Callable[[SqlLedger], None], given_back: bool) -> None:
    job = ledger.submit(wish()).job
    end(ledger)
    assert stored(ledger, job).ended
    assert left(ledger, per_day=3) == (3 if given_back else 2)


def test_a_refund_goes_to_the_day_that_was_charged(ledger: SqlLedger, clock: Clock) -> None:
    job = ledger.submit(wish(n=2)).job
    today = clock.now
    clock.now += 86_000
    ledger.submit(wish(n=1))
    ledger.cancel(job.id)
    assert left(ledger, per_day=3) == 2
    clock.now = today
    assert left(ledger, per_day=3) == 3


# -- retries


def test_the_same_key_and_body_is_the_same_job(ledger: Ledger) -> None:
    asked = wish(idempotency_key="k1", body_hash="aa")
    first = ledger.submit(asked)
    again = ledger.submit(asked)
    assert (first.reattached, again.reattached) == (False, True)
    assert again.job == first.job
    with pytest.raises(IdempotencyMismatch):
        ledger.submit(wish(idempotency_key="k1", body_hash="bb"))
    assert not ledger.submit(wish(idempotency_key="k1", body_hash="bb", tenant="bob")).reattached
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert ledger.submit(asked).job.state is JobState.SUCCEEDED


def test_a_key_is_free_again_after_a_day_or_a_cancel(ledger: Ledger, clock: Clock) -> None:
    asked = wish(idempotency_key="k1", body_hash="aa")
    first = ledger.submit(asked).job
    ledger.cancel(first.id)
    second = ledger.submit(asked)
    assert (second.reattached, second.job.id != first.id) == (False, True)
    ledger.cancel(second.job.id)
    clock.now += 86_401
    third = ledger.submit(wish(idempotency_key="k1", body_hash="bb"))
    assert not third.reattached


def test_concurrent_duplicates_make_one_job(database: Database) -> None:
    ledgers = [database.open() for _ in range(2)]
    asked = wish(idempotency_key="k1", body_hash="aa")
    ids: list[str] = []

    def ask(ledger: Ledger) -> None:
        ids.append(ledger.submit(asked).job.id)

    in_threads([partial(ask, ledgers[i % 2]) for i in range(8)])
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_a_retry_finds_its_unanswered_job(ledger: Ledger, clock: Clock) -> None:
    first = ledger.submit(wish(body_hash="aa")).job
    retry = wish(body_hash="aa", retry_count=1)
    clock.now += 899
    assert ledger.submit(retry).job.id == first.id
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert ledger.submit(retry).job.id == first.id, "it ended, but nobody had the answer"
    clock.now += 2
    assert not ledger.submit(retry).reattached, "too long ago"


def test_an_answer_may_be_lost_on_its_way(ledger: Ledger, clock: Clock) -> None:
    retry = wish(body_hash="aa", retry_count=1)
    first = ledger.submit(wish(body_hash="aa")).job
    ledger.answered([first.id])
    clock.now += 9
    assert ledger.submit(retry).job.id == first.id
    second = ledger.submit(wish(body_hash="aa")).job
    assert ledger.submit(retry).job.id == second.id, "it has no answer at all"
    clock.now += 2
    ledger.answered([first.id, second.id])
    assert ledger.submit(retry).job.id == second.id, "the first one was answered once, long ago"


def test_equal_requests_that_are_cut_off_together_find_a_job_each(
    ledger: Ledger, clock: Clock
) -> None:
    def tick(request: ImageRequest) -> str:
        clock.now += 0.1
        return ledger.submit(request).job.id

    jobs = {tick(wish(body_hash="aa")) for _ in range(3)}
    retry = wish(body_hash="aa", retry_count=1)
    assert {tick(retry) for _ in range(3)} == jobs
    keyed = tick(wish(body_hash="aa", idempotency_key="k"))
    assert {tick(retry) for _ in range(3)} == jobs, "a key's job is found by its key alone"
    for _ in range(4):
        job = claim_one(ledger)
        ledger.finish_render(job.id, job.fence, 0, picture())
    assert {tick(retry) for _ in range(3)} == jobs
    assert tick(wish(body_hash="aa", idempotency_key="k", retry_count=1)) == keyed
    clock.now += 601  # no client came back for these
    latest = tick(wish(body_hash="aa"))
    assert {tick(retry) for _ in range(3)} == {latest}


def test_what_is_no_retry(ledger: Ledger, clock: Clock) -> None:
    first = ledger.submit(wish(body_hash="aa")).job
    for other in (
        wish(body_hash="aa"),
        wish(body_hash="bb", retry_count=1),
        wish(body_hash="aa", retry_count=1, tenant="bob"),
        wish(body_hash="", retry_count=1),
        wish(body_hash="", retry_count=2),
    ):
        assert not ledger.submit(other).reattached
    retry = wish(body_hash="cc", retry_count=1)
    answered = ledger.submit(wish(body_hash="cc")).job
    ledger.answered([answered.id])
    clock.now += 11
    assert not ledger.submit(retry).reattached
    assert ledger.submit(retry).reattached
    assert first.id in {job.id for job in ledger.recent("ada", 9)}


def test_a_retry_does_not_join_a_dying_job(ledger: Ledger) -> None:
    ledger.submit(wish(body_hash="aa"))
    held = claim_one(ledger)
    ledger.cancel(held.id)
    again = ledger.submit(wish(body_hash="aa", retry_count=1))
    assert not again.reattached


def test_reattaching_costs_no_quota_and_renews_the_watch(database: Database, clock: Clock) -> None:
    ledger = database.open(clock=clock, tiers={"free": Tier(images_per_day=1)})
    first = ledger.submit(wish(body_hash="aa")).job
    clock.now += 100
    again = ledger.submit(wish(body_hash="aa", retry_count=1)).job
    assert again.id == first.id
    assert again.watched_until == clock.now + 600


# -- time


def test_a_lapsed_lease_returns_the_job_to_its_place(ledger: Ledger, clock: Clock) -> None:
    first = ledger.submit(wish()).job
    ledger.submit(wish())
    job = claim_one(ledger, "dies")
    ledger.renew([beat(job, 6)], LEASE_SECONDS)
    assert wait_while_rescuing(ledger, clock, LEASE_SECONDS - 1) == 0
    assert wait_while_rescuing(ledger, clock, 1) == 1
    queued = stored(ledger, first)
    assert (queued.state, queued.worker) == (JobState.QUEUED, None)
    assert queued.fence == job.fence + 1
    assert estimate(ledger, first.id).position == 0
    again = claim_one(ledger, "lives")
    assert again.renders[0].checkpoint == b"checkpoint 6"
    assert again.attempts == 0, "it had moved, so its holder's death was not its fault"


def test_passes_since_the_last_checkpoint_are_no_progress(ledger: Ledger, clock: Clock) -> None:
    """They are shown, but the next holder does them again: so a job that kills its holder at the
    same pass each time comes to its end."""

    def dies_at(pass_no: int, saved: int) -> Job:
        job = claim_one(ledger, "dies")
        kept = f"checkpoint {saved}".encode()
        render = RenderBeat(0, RenderState.RENDERING, pass_no, kept, checkpoint_pass=saved)
        ledger.renew([Beat(job.id, job.fence, (render,))], LEASE_SECONDS)
        wait_while_rescuing(ledger, clock, LEASE_SECONDS + 1)
        return stored(ledger, job)

    ledger.submit(wish())
    queued = dies_at(7, saved=3)
    (render,) = queued.renders
    assert (render.pass_no, render.checkpoint, render.saved_passes) == (7, b"checkpoint 3", 3)
    assert (queued.attempts, queued.progress) == (0, 3)
    assert dies_at(9, saved=3).attempts == 1
    assert dies_at(5, saved=5).attempts == 0, "two passes on, although it was further before"


def test_one_beat_for_two_leases_of_a_job(ledger: Ledger, clock: Clock) -> None:
    """A holder whose lease lapsed unnoticed and who claimed the job again still beats for both."""
    ledger.submit(wish())
    lapsed = claim_one(ledger)
    wait_while_rescuing(ledger, clock, LEASE_SECONDS + 1)
    held = claim_one(ledger)
    old, new = ledger.renew([beat(lapsed, 9), beat(held, 3)], LEASE_SECONDS)
    assert (old.held, new.held) == (False, True)
    stored = ledger.get(held.id)
    assert stored is not None
    assert stored.renders[0].pass_no == 3


def test_a_renewed_lease_does_not_lapse(ledger: Ledger, clock: Clock) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    for pass_no in range(1, 10):
        assert wait_while_rescuing(ledger, clock, LEASE_SECONDS - 2) == 0
        assert ledger.renew([beat(job, pass_no)], LEASE_SECONDS)[0].held


def test_a_job_that_only_kills_is_given_up(ledger: Ledger, clock: Clock) -> None:
    job = ledger.submit(wish()).job
    claim_one(ledger, "first")
    wait_while_rescuing(ledger, clock, LEASE_SECONDS)
    second = claim_one(ledger, "second")
    assert second.attempts == 1
    ledger.release(job.id, second.fence, error="CUDA error: device-side assert")
    third = claim_one(ledger, "third")
    assert third.renders[0].attempts == 2
    wait_while_rescuing(ledger, clock, LEASE_SECONDS)
    failed = stored(ledger, job)
    assert failed.state is JobState.FAILED
    assert failed.errors == (
        "lease of first lapsed",
        "CUDA error: device-side assert",
        "lease of third lapsed",
    )
    assert failed.renders[0].error == "lease of third lapsed"


def test_progress_forgives_earlier_attempts(ledger: Ledger, clock: Clock) -> None:
    job = ledger.submit(wish()).job
    for pass_no in range(1, 9):
        job = claim_one(ledger)
        ledger.renew([beat(job, pass_no)], LEASE_SECONDS)
        ledger.release(job.id, job.fence, error="the decoder was killed")
    assert stored(ledger, job).attempts == 1
    for _ in range(2):
        job = claim_one(ledger)
        wait_while_rescuing(ledger, clock, LEASE_SECONDS)
    assert stored(ledger, job).state is JobState.FAILED


def test_only_the_unsettled_images_fail(ledger: Ledger) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    ledger.release(job.id, job.fence, error="out of memory")
    for _ in range(2):
        job = claim_one(ledger)
        ledger.release(job.id, job.fence, error="out of memory")
    done = stored(ledger, job)
    assert done.state is JobState.SUCCEEDED
    assert [r.state.value for r in done.renders] == ["succeeded", "failed"]


def test_a_cancel_whose_holder_died(ledger: Ledger, clock: Clock) -> None:
    job = ledger.submit(wish()).job
    claim_one(ledger)
    ledger.cancel(job.id)
    wait_while_rescuing(ledger, clock, LEASE_SECONDS)
    assert stored(ledger, job).state is JobState.CANCELLED


def test_after_silence_holders_get_one_lease(ledger: Ledger, clock: Clock) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    clock.now += 3600  # nobody reached the ledger, or the clock jumped
    assert ledger.expire() == 0
    clock.now += 1
    assert ledger.expire() == 0
    assert ledger.renew([beat(job, 3)], LEASE_SECONDS)[0].held
    assert wait_while_rescuing(ledger, clock, LEASE_SECONDS) == 1, "but only one"


def test_images_that_finish_together_have_each_their_own_end(ledger: SqlLedger) -> None:
    for n in (2, 1):
        ledger.submit(wish(n=n))
    pair, lone = claim_one(ledger), claim_one(ledger)

    def finish(job: Job, index: int, fence: int, outcome: Outcome = picture()) -> partial[Job]:  # noqa: B008
        return partial(ledger.finish_render, job.id, fence, index, outcome)

    results = ledger.together(
        [
            finish(pair, 0, pair.fence),
            finish(pair, 0, pair.fence),
            finish(lone, 0, lone.fence - 1),
            finish(lone, 0, lone.fence, refusal("input")),
            partial(ledger.cancel, "nobody"),
            finish(pair, 1, pair.fence),
        ]
    )
    kinds = [r.state.value if isinstance(r, Job) else type(r) for r in results]
    lost = LeaseLost
    assert kinds == ["leased", lost, lost, "blocked", type(None), "succeeded"]
    assert stored(ledger, pair) == results[-1]
    assert stored(ledger, pair).finished_at is not None
    assert stored(ledger, lone).state is JobState.BLOCKED


def test_leases_lapse_after_the_clock_went_back(ledger: Ledger, clock: Clock) -> None:
    for _ in range(2):
        ledger.submit(wish())
    dead, living = claim_one(ledger), claim_one(ledger)
    clock.now -= 3600
    assert ledger.expire() == 0
    assert ledger.renew([beat(living, 3)], LEASE_SECONDS)[0].held
    clock.now += LEASE_SECONDS - 1
    assert ledger.renew([beat(living, 4)], LEASE_SECONDS)[0].held
    assert wait_while_rescuing(ledger, clock, 2) == 1
    assert stored(ledger, dead).state is JobState.QUEUED
    assert stored(ledger, living).state is not JobState.QUEUED


def test_leases_lapse_after_the_clock_went_to_and_fro(ledger: Ledger, clock: Clock) -> None:
    ledger.submit(wish())
    claim_one(ledger)
    clock.now += 3600
    assert ledger.expire() == 0, "an outage, it seems"
    clock.now -= 3600
    assert wait_while_rescuing(ledger, clock, 2 * LEASE_SECONDS + 1) == 1


def test_deadline(ledger: SqlLedger, clock: Clock) -> None:
    job = ledger.submit(wish(deadline_seconds=60.0, watched=False)).job
    wait_while_rescuing(ledger, clock, 59)
    assert not stored(ledger, job).ended
    clock.now += 1
    assert ledger.claim("chat", "w", 1, LEASE_SECONDS) == [], "overdue is skipped"
    assert ledger.expire() == 1
    assert stored(ledger, job).state is JobState.EXPIRED
    assert left(ledger, per_day=2) == 2, "refunded"


@pytest.mark.parametrize("all_passes", [False, True])
def test_work_that_has_begun_goes_on_after_its_deadline(
    ledger: SqlLedger, clock: Clock, all_passes: bool
) -> None:
    """Its holder gives it back for a restart, as often as that may be; but not for ever."""
    ledger.submit(wish(deadline_seconds=16.0, watched=False, n=1))
    job = claim_one(ledger)
    ledger.renew([final_beat(job) if all_passes else beat(job, 3)], LEASE_SECONDS)
    clock.now += 16
    ledger.release(job.id, job.fence)
    assert ledger.expire() == 0
    again = claim_one(ledger)
    assert again.renders[0].checkpoint is not None
    ledger.release(again.id, again.fence)
    wait_while_rescuing(ledger, clock, 86_399, every=4000)
    assert stored(ledger, job).state is JobState.QUEUED
    wait_while_rescuing(ledger, clock, 1)
    assert stored(ledger, job).state is JobState.EXPIRED


@pytest.mark.parametrize(("checkpoint", "saved"), [(None, None), (b"of a lost blob", 0)])
def test_passes_that_left_no_checkpoint_keep_no_deadline_open(
    ledger: SqlLedger, clock: Clock, checkpoint: bytes | None, saved: int | None
) -> None:
    ledger.submit(wish(deadline_seconds=16.0, watched=False, n=1))
    job = claim_one(ledger)
    render = RenderBeat(0, RenderState.RENDERING, 3, checkpoint, checkpoint_pass=saved)
    ledger.renew([Beat(job.id, job.fence, (render,))], LEASE_SECONDS)
    clock.now += 16
    ledger.release(job.id, job.fence)
    assert ledger.claim("chat", "w", 1, LEASE_SECONDS) == []
    assert ledger.expire() == 1
    assert stored(ledger, job).state is JobState.EXPIRED


def test_images_that_are_done_keep_the_others(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(deadline_seconds=16.0, watched=False, n=2))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    clock.now += 16
    ledger.release(job.id, job.fence)
    assert ledger.expire() == 0
    assert claim_one(ledger).id == job.id


def test_a_job_that_was_only_held_expires(ledger: SqlLedger, clock: Clock) -> None:
    ledger.submit(wish(deadline_seconds=16.0, watched=False))
    job = claim_one(ledger)
    clock.now += 16
    ledger.release(job.id, job.fence)
    assert ledger.claim("chat", "w", 1, LEASE_SECONDS) == []
    assert ledger.expire() == 1
    assert stored(ledger, job).state is JobState.EXPIRED


def test_a_held_job_is_not_overdue(ledger: Ledger, clock: Clock) -> None:
    ledger.submit(wish(deadline_seconds=5.0, watched=False))
    job = claim_one(ledger)
    wait_while_rescuing(ledger, clock, LEASE_SECONDS - 1)
    assert not stored(ledger, job).ended


def test_nobody_waits_any_more(ledger: Ledger, clock: Clock) -> None:
    queued = ledger.submit(wish()).job
    unwatched = ledger.submit(wish(watched=False)).job
    wait_while_rescuing(ledger, clock, 300, every=100)
    ledger.unwatch({job.id: job.watched_until or 0.0 for job in (queued, unwatched)}, 120.0)
    wait_while_rescuing(ledger, clock, 119, every=17)
    assert not stored(ledger, queued).ended
    clock.now += 1
    assert [j.id for j in ledger.claim("chat", "w", 2, LEASE_SECONDS)] == [unwatched.id]
    assert ledger.expire() == 1
    assert stored(ledger, queued).state is JobState.CANCELLED
    assert stored(ledger, unwatched).watched_until is None


def test_a_gateway_that_is_cut_off_keeps_its_jobs(database: Database, clock: Clock) -> None:
    """Its clients wait on, and all others reach the ledger. It has ten minutes to come back."""
    gateway, others = (database.open(clock=clock) for _ in range(2))
    job = gateway.submit(wish()).job
    wait_while_rescuing(others, clock, 599, every=100)
    assert not stored(others, job).ended
    gateway.watch([job.id], 600.0)
    wait_while_rescuing(others, clock, 599, every=100)
    assert [one.id for one in others.claim("chat", "w", 1, LEASE_SECONDS)] == [job.id]
    others.release(job.id, 1)
    assert wait_while_rescuing(others, clock, 1) == 1, "nothing was heard of it for so long"
    assert stored(others, job).state is JobState.CANCELLED


def test_a_poll_shortens_no_watch(ledger: Ledger, clock: Clock) -> None:
    job = ledger.submit(wish()).job
    ledger.watch([job.id], 120.0)
    assert stored(ledger, job).watched_until == clock.now + 600
    ledger.unwatch({job.id: clock.now + 600}, 120.0)
    clock.now += 100
    assert ledger.watch([job.id], 120.0) == clock.now + 120 == stored(ledger, job).watched_until


def test_leaving_leaves_another_connection_its_watch(ledger: Ledger, clock: Clock) -> None:
    """Its retry was quicker than the news that the first connection is gone."""
    first = ledger.submit(wish(body_hash="aa")).job
    clock.now += 1
    ledger.submit(wish(body_hash="aa", retry_count=1))
    ledger.unwatch({first.id: first.watched_until or 0.0}, 120.0)
    assert stored(ledger, first).watched_until == clock.now + 600


def test_watching_keeps_it_alive(ledger: Ledger, clock: Clock) -> None:
    job = ledger.submit(wish()).job
    for _ in range(5):
        wait_while_rescuing(ledger, clock, 100)
        ledger.watch([job.id], 120.0)
    assert stored(ledger, job).state is JobState.QUEUED


def test_watching_an_async_job_does_not_tie_its_life_to_the_watcher(ledger: Ledger) -> None:
    job = ledger.submit(wish(watched=False)).job
    ledger.watch([job.id], 1.0)
    assert stored(ledger, job).watched_until is None


def test_nobody_waits_for_a_running_job(ledger: Ledger, clock: Clock) -> None:
    until = ledger.submit(wish()).job.watched_until
    assert until is not None
    job = claim_one(ledger)
    ledger.unwatch({job.id: until}, 120.0)
    for pass_no in range(1, 121):
        ledger.renew([beat(job, pass_no)], LEASE_SECONDS)
        clock.now += 1
        ledger.expire()
    (renewal,) = ledger.renew([beat(job, 121)], LEASE_SECONDS)
    assert renewal.cancelled
    assert stored(ledger, job).state is JobState.CANCELLED
