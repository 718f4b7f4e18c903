"""The Ledger's contract: a job's life under lease and fence. Run on every database."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.job import IllegalTransition, Job, JobState, RenderState
from jobs.lease import Beat, Outcome, RenderBeat
from jobs.ledger import Ledger
from jobs.ledger_errors import LeaseLost
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    beat,
    claim_one,
    estimate,
    final_beat,
    picture,
    refusal,
    wish,
)


def stored(ledger: Ledger, job: Job) -> Job:
    found = ledger.get(job.id)
    assert found is not None
    return found


def test_a_job_from_wish_to_picture(ledger: Ledger, clock: Clock) -> None:
    submitted = ledger.submit(wish()).job
    assert submitted == stored(ledger, submitted)
    assert submitted.state is JobState.QUEUED
    assert submitted.created_at == clock.now
    assert submitted.deadline_at == clock.now + 86_400

    clock.now += 2
    leased = claim_one(ledger, "worker-a")
    assert (leased.state, leased.worker, leased.fence) == (JobState.LEASED, "worker-a", 1)
    assert leased.started_at == clock.now
    assert leased == stored(ledger, leased)

    assert [r.held for r in ledger.renew([Beat(leased.id, 1, ())], LEASE_SECONDS)] == [True]
    assert stored(ledger, leased).state is JobState.LEASED, "encoding: nothing is drawn yet"
    ledger.renew([beat(leased, 3, previews=(2,))], LEASE_SECONDS)
    running = stored(ledger, leased)
    assert running.state is JobState.RUNNING
    assert running.renders[0].checkpoint == b"checkpoint 3"
    assert (running.renders[0].pass_no, running.renders[0].previews) == (3, (2,))

    ledger.renew([final_beat(leased)], LEASE_SECONDS)
    assert stored(ledger, leased).state is JobState.FINISHING
    clock.now += 1
    done = ledger.finish_render(leased.id, 1, 0, picture("images/a.png"))
    assert done == stored(ledger, leased)
    assert (done.state, done.finished_at, done.worker) == (JobState.SUCCEEDED, clock.now, None)
    assert done.renders[0].blob == "images/a.png"
    assert done.renders[0].checkpoint == b"final", "what an edit goes on from"
    assert done.renders[0].previews == (2,)


def test_unknown_jobs_are_none(ledger: Ledger) -> None:
    assert ledger.get("00") is None
    assert ledger.cancel("00") is None
    assert estimate(ledger, "00").position is None
    assert ledger.get_many(["00"]) == []
    assert ledger.get_many([]) == []
    assert ledger.claim("chat", "w", 4, LEASE_SECONDS) == []
    assert not ledger.renew([Beat("00", 1, ())], LEASE_SECONDS)[0].held
    with pytest.raises(LeaseLost):
        ledger.finish_render("00", 1, 0, picture())


def test_a_lane_claims_only_its_own(ledger: Ledger) -> None:
    ledger.submit(wish(lane="api"))
    assert ledger.claim("chat", "w", 4, LEASE_SECONDS) == []
    assert len(ledger.claim("api", "w", 4, LEASE_SECONDS)) == 1


def test_one_tenant_is_served_in_order_of_arrival(ledger: Ledger) -> None:
    ids = [ledger.submit(wish()).job.id for _ in range(5)]
    claimed = ledger.claim("chat", "w", 3, LEASE_SECONDS) + ledger.claim("chat", "w", 9, 1)
    assert [job.id for job in claimed] == ids


def test_a_load_of_one_tenant_does_not_delay_a_newcomer(ledger: Ledger) -> None:
    for _ in range(20):
        ledger.submit(wish(tenant="whale"))
    claim_one(ledger)
    newcomer = ledger.submit(wish(tenant="newcomer")).job
    following = ledger.claim("chat", "w", 2, LEASE_SECONDS)
    assert newcomer.id in [job.id for job in following]


def test_idling_earns_no_credit(ledger: Ledger) -> None:
    ledger.submit(wish(tenant="idler"))
    for _ in range(10):
        ledger.submit(wish(tenant="busy"))
    ledger.claim("chat", "w", 11, LEASE_SECONDS)
    for _ in range(10):
        ledger.submit(wish(tenant="busy"))
    for _ in range(10):
        ledger.submit(wish(tenant="idler"))
    following = ledger.claim("chat", "w", 10, LEASE_SECONDS)
    assert sorted(job.request.tenant for job in following) == ["busy"] * 5 + ["idler"] * 5


def test_a_late_writer_changes_nothing(ledger: Ledger) -> None:
    ledger.submit(wish())
    first = claim_one(ledger, "paused")
    ledger.renew([beat(first, 2)], LEASE_SECONDS)
    ledger.release(first.id, first.fence)
    second = claim_one(ledger, "awake")
    assert second.fence > first.fence
    ledger.renew([beat(second, 5)], LEASE_SECONDS)
    before = stored(ledger, second)

    assert not ledger.renew([beat(first, 9)], LEASE_SECONDS)[0].held
    ledger.release(first.id, first.fence, error="too late")
    with pytest.raises(LeaseLost):
        ledger.finish_render(first.id, first.fence, 0, picture("images/late.png"))
    assert stored(ledger, second) == before


def test_an_image_is_settled_once(ledger: Ledger) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture("images/first.png"))
    with pytest.raises(LeaseLost):
        ledger.finish_render(job.id, job.fence, 0, picture("images/second.png"))
    with pytest.raises(LeaseLost):
        ledger.finish_render(job.id, job.fence, 2, picture())
    assert stored(ledger, job).renders[0].blob == "images/first.png"
    done = ledger.finish_render(job.id, job.fence, 1, picture())
    assert done.state is JobState.SUCCEEDED
    with pytest.raises(LeaseLost):
        ledger.finish_render(job.id, job.fence, 1, picture())


def test_an_outcome_must_settle(ledger: Ledger) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    for outcome in (Outcome(RenderState.RENDERING), Outcome(RenderState.SUCCEEDED)):
        with pytest.raises(ValueError, match="not an outcome"):
            ledger.finish_render(job.id, job.fence, 0, outcome)


def test_a_beat_must_say_rendering_or_finishing(ledger: Ledger) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    wrong = RenderBeat(0, RenderState.SUCCEEDED, 1, b"ck")
    with pytest.raises(IllegalTransition):
        ledger.renew([Beat(job.id, job.fence, (wrong,))], LEASE_SECONDS)
    assert stored(ledger, job) == job


def test_beats_of_many_jobs_are_answered_in_order(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.submit(wish(n=2))
    a, b, c = ledger.claim("chat", "w", 3, LEASE_SECONDS)
    ledger.release(b.id, b.fence)
    renewals = ledger.renew([beat(c, 1, index=1), beat(b, 2), beat(a, 3)], LEASE_SECONDS)
    assert [(r.job_id, r.held) for r in renewals] == [(c.id, True), (b.id, False), (a.id, True)]
    assert [r.pass_no for r in stored(ledger, c).renders] == [0, 1]
    assert [r.pass_no for r in stored(ledger, a).renders] == [3, 0]
    assert ledger.renew([], LEASE_SECONDS) == []


def test_a_beat_keeps_earlier_previews_and_the_last_checkpoint(ledger: Ledger) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    ledger.renew([beat(job, 4, previews=(2, 4))], LEASE_SECONDS)
    bare = RenderBeat(0, RenderState.RENDERING, 5, None, (5,))
    ledger.renew([Beat(job.id, job.fence, (bare,))], LEASE_SECONDS)
    render = stored(ledger, job).renders[0]
    assert (render.pass_no, render.previews, render.checkpoint) == (5, (2, 4, 5), b"checkpoint 4")


def test_a_beat_for_a_settled_image_is_ignored(ledger: Ledger) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert ledger.renew([beat(job, 9)], LEASE_SECONDS)[0].held
    assert stored(ledger, job).renders[0].state is RenderState.SUCCEEDED


def test_a_released_job_keeps_its_place_and_its_checkpoints(ledger: Ledger) -> None:
    first = ledger.submit(wish()).job
    for _ in range(3):
        ledger.submit(wish())
    job = claim_one(ledger)
    ledger.renew([beat(job, 6)], LEASE_SECONDS)
    ledger.release(job.id, job.fence)
    assert stored(ledger, job).state is JobState.QUEUED
    assert estimate(ledger, job.id).position == 0
    again = claim_one(ledger)
    assert again.id == first.id
    assert again.renders[0].checkpoint == b"checkpoint 6"
    assert again.renders[0].pass_no == 6
    assert again.attempts == 0


def test_an_image_in_finishing_stays_there(ledger: Ledger) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    ledger.renew([final_beat(job)], LEASE_SECONDS)
    ledger.release(job.id, job.fence)
    assert stored(ledger, job).renders[0].state is RenderState.FINISHING
    again = claim_one(ledger)
    assert again.state is JobState.FINISHING, "nothing is drawn again"
    assert again.renders[0].checkpoint == b"final"


def test_some_images_blocked_is_success_with_errors(ledger: Ledger) -> None:
    ledger.submit(wish(n=4))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    ledger.finish_render(job.id, job.fence, 1, refusal("output"))
    failure = Outcome(RenderState.FAILED, error="NaN in pass 3")
    ledger.finish_render(job.id, job.fence, 2, failure)
    done = ledger.finish_render(job.id, job.fence, 3, picture())
    assert done.state is JobState.SUCCEEDED
    assert [r.state.value for r in done.renders] == ["succeeded", "blocked", "failed", "succeeded"]
    assert (done.renders[1].categories, done.renders[1].stage) == (("weapons",), "output")
    assert done.renders[2].error == "NaN in pass 3"


def test_what_was_drawn_is_kept_beside_the_picture(ledger: Ledger) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    said = replace(picture(), revised_prompt="a dog", redrawn="ff00")
    ledger.finish_render(job.id, job.fence, 0, said)
    ledger.finish_render(job.id, job.fence, 1, picture())
    assert [r.revised_prompt for r in stored(ledger, job).renders] == ["a dog", None]
    assert [r.redrawn for r in stored(ledger, job).renders] == ["ff00", None]


def test_all_images_blocked_is_blocked(ledger: Ledger) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, refusal("input"))
    done = ledger.finish_render(job.id, job.fence, 1, refusal("input"))
    assert done.state is JobState.BLOCKED


def test_cancel_a_queued_job_at_once(ledger: Ledger) -> None:
    job = ledger.submit(wish()).job
    cancelled = ledger.cancel(job.id)
    assert cancelled is not None
    assert cancelled.state is JobState.CANCELLED
    assert cancelled == stored(ledger, job)
    assert ledger.claim("chat", "w", 1, LEASE_SECONDS) == []


@pytest.mark.parametrize("moved", ["leased", "running", "finishing"])
def test_cancel_a_held_job_by_its_next_renewal(ledger: Ledger, moved: str) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    if moved == "running":
        ledger.renew([beat(job, 1)], LEASE_SECONDS)
    elif moved == "finishing":
        ledger.renew([final_beat(job, 0, 1)], LEASE_SECONDS)
    flagged = ledger.cancel(job.id)
    assert flagged is not None
    assert (flagged.state.value, flagged.cancel_requested) == (moved, True)
    (renewal,) = ledger.renew([beat(job, 2)], LEASE_SECONDS)
    assert (renewal.held, renewal.cancelled) == (False, True)
    cancelled = stored(ledger, job)
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.renders[0].pass_no == 2, "the last beat still counts"
    (late,) = ledger.renew([beat(job, 3)], LEASE_SECONDS)
    assert (late.held, late.cancelled) == (False, True)


def test_a_picture_that_was_ready_before_the_cancel_arrived_stays(ledger: Ledger) -> None:
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    ledger.cancel(job.id)
    ledger.finish_render(job.id, job.fence, 0, picture())
    ledger.renew([beat(job, 2, index=1)], LEASE_SECONDS)
    done = stored(ledger, job)
    assert [r.state.value for r in done.renders] == ["succeeded", "cancelled"]
    assert done.state is JobState.SUCCEEDED


def test_cancel_of_a_released_job(ledger: Ledger) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    ledger.cancel(job.id)
    ledger.release(job.id, job.fence)
    assert stored(ledger, job).state is JobState.CANCELLED


def test_cancel_of_an_ended_job_changes_nothing(ledger: Ledger) -> None:
    ledger.submit(wish())
    job = claim_one(ledger)
    done = ledger.finish_render(job.id, job.fence, 0, picture())
    assert ledger.cancel(job.id) == done
    assert stored(ledger, job) == done


def test_recent_is_newest_first_and_one_tenants(ledger: Ledger) -> None:
    ids = [ledger.submit(wish(tenant="ada")).job.id for _ in range(3)]
    ledger.submit(wish(tenant="bob"))
    assert [job.id for job in ledger.recent("ada", 2)] == ids[:0:-1]
    assert len(ledger.get_many([*ids, "unknown"])) == 3


def test_what_is_held_or_ended_since_has_moved(ledger: Ledger, clock: Clock) -> None:
    """However it ended, and whatever waits."""
    assert ledger.moved(["chat"], None) == (frozenset(), clock.now)
    done, refused, broken, cancelled, held, waiting = [
        ledger.submit(wish(prompt=str(number))).job for number in range(6)
    ]
    ends = {done.id: picture(), refused.id: refusal("input"),
            broken.id: Outcome(RenderState.FAILED, error="it broke")}  # fmt: skip
    began, clock.now = clock.now, clock.now + 5
    for _ in range(5):
        job = claim_one(ledger)
        if job.id in ends:
            ledger.finish_render(job.id, job.fence, 0, ends[job.id])
        if job.id == cancelled.id:
            ledger.release(job.id, job.fence)
            ledger.cancel(job.id)
    moved, now = ledger.moved(["chat", "other"], began)
    assert moved == {*ends, cancelled.id, held.id}
    assert now == clock.now
    assert ledger.moved(["chat"], now)[0] == {held.id}
    clock.now += 90_000
    assert ledger.expire()
    assert waiting.id in ledger.moved(["chat"], now)[0]


def test_position_and_depth(ledger: Ledger) -> None:
    jobs = [ledger.submit(wish(n=2, cost_seconds=4.0)).job for _ in range(4)]
    assert [estimate(ledger, job.id).position for job in jobs] == [0, 1, 2, 3]
    held = claim_one(ledger)
    assert estimate(ledger, held.id).position is None
    assert estimate(ledger, jobs[3].id).position == 2
    ledger.renew([beat(held, 8)], LEASE_SECONDS)
    depth = ledger.depth("chat")
    assert (depth.queued_jobs, depth.active_jobs) == (3, 1)
    assert depth.waiting_seconds == 12.0
    assert depth.running_seconds == pytest.approx(3.0), "half of one of two images is drawn"
    assert ledger.depth("elsewhere").queued_jobs == 0


@pytest.mark.parametrize(
    "prompt",
    ["'; drop table jobs; --", "nul \0 inside", "fox \U0001f98a", "x" * 32_000, "a\u2028b\n\t\\"],
)
def test_prompts_come_back_as_they_were(ledger: Ledger, prompt: str) -> None:
    job = ledger.submit(wish(prompt=prompt)).job
    assert stored(ledger, job).request.prompt == prompt
    assert claim_one(ledger).request == wish(prompt=prompt)


def test_a_lone_surrogate_is_refused_by_name(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match=r"^prompt: "):
        ledger.submit(wish(prompt="\ud83e"))
    with pytest.raises(ValueError, match=r"^idempotency_key: "):
        ledger.submit(wish(idempotency_key="a\0b"))
    assert ledger.depth("chat").queued_jobs == 0


def test_nobody_named_is_nobody_found(ledger: Ledger) -> None:
    assert ledger.get_many([]) == []
    assert ledger.estimates([]) == {}
    ledger.watch(["00"], 120.0)
    ledger.answered(["00"])
    ledger.forget([])
