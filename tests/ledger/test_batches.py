"""Batches in the ledger, on each database: a line becomes one job, whoever feeds it and however
often; and what a batch ends as."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from jobs.batches import (
    ENDED,
    TRANSITIONS,
    BatchEvent,
    BatchFiles,
    BatchLeaseLost,
    BatchRecord,
    BatchState,
    BatchTransitionError,
    BatchWish,
    FinishedFile,
    LineState,
    NewLine,
    OpenBatches,
    after,
)
from jobs.files import BATCH, BATCH_OUTPUT, INPUT
from jobs.job import JobState
from jobs.lease import PreemptionRequest
from jobs.ledger import Ledger
from jobs.ledger_errors import BatchesFull, QuotaExceeded
from jobs.request import BATCH_TIER, ImageRequest, Tenant
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from jobs.webhooks import EVENT_TYPES, new_endpoint
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    estimate,
    picture,
    refusal,
    upload,
    wish,
)

ADA = Tenant("ada", "free")
LANE = "chat"


def asked(input_file: str, **changes: object) -> BatchWish:
    said = BatchWish(
        input_file=input_file,
        endpoint="/v1/images/generations",
        metadata={"who": "ada"},
        output_seconds=5000.0,
    )
    return replace(said, **changes)  # type: ignore[arg-type]


def lines(count: int, images: int = 1) -> list[NewLine]:
    return [
        NewLine(number, f"line-{number}", number * 10, 10, images, LANE, 2.0)
        for number in range(1, count + 1)
    ]


def begun(ledger: Ledger, count: int) -> BatchRecord:
    """A leased batch in progress."""
    file = ledger.add_file(upload(purpose=BATCH))
    made = ledger.add_batch(LANE, ADA, asked(file.id), most_open=10)
    (held,) = ledger.lease_batches(LANE, 10, 30.0)
    assert held.id == made.id
    ledger.keep_lines(held.id, held.fence, lines(count))
    return ledger.begin_batch(held.id, held.fence, "tokens", 10**9)


def requests(*numbers: int) -> dict[int, ImageRequest]:
    return {number: wish(seed=number, in_batch=True, watched=False) for number in numbers}


@pytest.mark.parametrize(("state", "event"), list(product(BatchState, BatchEvent)))
def test_a_batch_moves_by_one_table(state: BatchState, event: BatchEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is not state
        assert state not in ENDED
    else:
        with pytest.raises(BatchTransitionError):
            after(state, event)


def test_a_batch_is_drawn_and_ends_with_its_files(ledger: SqlLedger, clock: Clock) -> None:
    batch = begun(ledger, 2)
    assert (batch.state, batch.total, batch.images) == (BatchState.IN_PROGRESS, 2, 2)
    assert [one.line for one in ledger.waiting_lines(batch.id, 5)] == [1, 2]
    ids = ledger.feed_lines(batch.id, batch.fence, requests(1, 2))
    assert ledger.queued_lines(batch.id) == 2
    job = claim_one(ledger)
    assert job.request.share_tier == BATCH_TIER
    ledger.finish_render(job.id, job.fence, 0, picture())
    assert ledger.collect_lines(batch.id, batch.fence).completed == 1
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, refusal("input"))
    batch = ledger.collect_lines(batch.id, batch.fence)
    assert (batch.state, batch.completed, batch.failed) == (BatchState.FINALIZING, 1, 1)
    assert ledger.open_batches(LANE) == {BatchState.FINALIZING: OpenBatches(1, 2, 1, 1)}
    assert ledger.open_batches("other") == {}
    assert ledger.recent("ada", 9, batches=False) == []
    assert ledger.stop_lines(batch.id, batch.fence, 10) is None
    ended = ledger.ended_lines(batch.id, 0, 10)
    assert [(one.state, one.job_id) for one in ended] == [
        (LineState.COMPLETED, ids[0]), (LineState.FAILED, ids[1]),
    ]  # fmt: skip
    assert [one.line for one in ledger.ended_lines(batch.id, 1, 10)] == [2]
    written = ledger.add_file(replace(upload(purpose=INPUT), blobs=()))
    key = f"{upload_prefix(written.id)}/00000.jsonl"
    files = BatchFiles(FinishedFile(written.id, 12, (key,)), None, 5, 7)
    done = ledger.end_batch(batch.id, batch.fence, files)
    assert (done.state, done.output_file, done.error_file) == (
        BatchState.COMPLETED, written.id, None,
    )  # fmt: skip
    assert done == ledger.batch("ada", batch.id)
    assert ledger.open_batches(LANE) == {}
    shown = ledger.file("ada", written.id)
    assert shown is not None
    assert (shown.purpose, shown.bytes, shown.blobs) == (BATCH_OUTPUT, 12, (key,))
    assert shown.expires_at == clock.now + 5000
    with pytest.raises(BatchLeaseLost):
        ledger.end_batch(batch.id, batch.fence, files)


def upload_prefix(file_id: str) -> str:
    return f"inputs/{file_id[5:7]}/{file_id[5:]}"


def test_the_end_of_a_batch_is_an_event_and_the_ends_of_its_lines_are_not(
    ledger: SqlLedger,
) -> None:
    made = ledger.add_endpoint(new_endpoint("ada", "ours", "https://x.example", EVENT_TYPES), 10)
    batch = begun(ledger, 1)
    ledger.feed_lines(batch.id, batch.fence, requests(1))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    ledger.collect_lines(batch.id, batch.fence)
    ledger.end_batch(batch.id, batch.fence, BatchFiles())
    told = ledger.deliveries("ada", made.id, None, 10)
    assert [(one.type, one.data) for one in told] == [("batch.completed", {"id": batch.id})]


def test_a_line_becomes_one_job_however_often_it_is_fed(database: Database, clock: Clock) -> None:
    ledger = database.open(clock=clock)
    batch = begun(ledger, 3)
    assert len(ledger.feed_lines(batch.id, batch.fence, requests(1, 2))) == 2
    assert ledger.lease_batches(LANE, 10, 30.0) == [], "it has its feeder"
    clock.now += 31
    other = database.open(clock=clock)
    (taken,) = other.lease_batches(LANE, 10, 30.0)
    assert taken.fence > batch.fence
    with pytest.raises(BatchLeaseLost):
        ledger.feed_lines(batch.id, batch.fence, requests(3))
    assert len(other.feed_lines(batch.id, taken.fence, requests(1, 2, 3))) == 1
    assert len(ledger.recent("ada", 10)) == 3
    other.let_batch_go(batch.id, taken.fence)
    assert ledger.lease_batches("another", 10, 30.0) == []
    assert [one.id for one in ledger.lease_batches(LANE, 10, 30.0)] == [batch.id]


def test_lines_that_are_there_stay_when_a_validation_is_done_again(ledger: SqlLedger) -> None:
    file = ledger.add_file(upload(purpose=BATCH))
    ledger.add_batch(LANE, ADA, asked(file.id), most_open=10)
    (held,) = ledger.lease_batches(LANE, 10, 30.0)
    ledger.keep_lines(held.id, held.fence, lines(2))
    ledger.keep_lines(held.id, held.fence, lines(3))
    assert ledger.begin_batch(held.id, held.fence, None, 100).total == 3
    ledger.keep_lines(held.id, held.fence, lines(9))
    assert len(ledger.waiting_lines(held.id, 20)) == 3


def test_what_is_wrong_is_kept_and_the_lines_are_not(ledger: SqlLedger) -> None:
    file = ledger.add_file(upload(purpose=BATCH))
    ledger.add_batch(LANE, ADA, asked(file.id), most_open=10)
    (held,) = ledger.lease_batches(LANE, 10, 30.0)
    ledger.keep_lines(held.id, held.fence, lines(2))
    wrong = {"line": 2, "code": "invalid_json_line", "message": "no", "param": None}
    failed = ledger.refuse_batch(held.id, held.fence, [wrong])
    assert failed.state is BatchState.FAILED
    found = ledger.batch("ada", held.id)
    assert found is not None
    assert found.errors == [wrong]
    assert ledger.waiting_lines(held.id, 10) == []
    assert ledger.lease_batches(LANE, 10, 1.0) == []


def test_too_many_images_or_batches_are_refused(ledger: SqlLedger) -> None:
    file = ledger.add_file(upload(purpose=BATCH))
    ledger.add_batch(LANE, ADA, asked(file.id), most_open=1)
    with pytest.raises(BatchesFull):
        ledger.add_batch(LANE, ADA, asked(file.id), most_open=1)
    (held,) = ledger.lease_batches(LANE, 10, 30.0)
    ledger.keep_lines(held.id, held.fence, lines(2, images=3))
    refused = ledger.begin_batch(held.id, held.fence, None, most_images=5)
    assert (refused.state, refused.errors[0]["code"]) == (
        BatchState.FAILED, "batch_images_exceeded",
    )  # fmt: skip
    with pytest.raises(KeyError):
        ledger.add_batch(LANE, Tenant("bob", "free"), asked(file.id), most_open=1)
    vision = ledger.add_file(upload())
    with pytest.raises(KeyError):
        ledger.add_batch(LANE, ADA, asked(vision.id), most_open=9)


@pytest.mark.parametrize("lapsed", [False, True])
def test_a_cancelled_or_late_batch_stops_its_lines(
    ledger: SqlLedger, clock: Clock, lapsed: bool
) -> None:
    batch = begun(ledger, 3)
    ids = ledger.feed_lines(batch.id, batch.fence, requests(1, 2))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, picture())
    if lapsed:
        clock.now += 86_400
        assert ledger.hold_batch(batch.id, batch.fence, 30).state is BatchState.FINALIZING
    else:
        assert ledger.cancel_batch("bob", batch.id) is None
        cancelled = ledger.cancel_batch("ada", batch.id)
        assert cancelled is not None
        assert cancelled.state is BatchState.CANCELLING
    assert ledger.feed_lines(batch.id, batch.fence, requests(3)) == []
    assert ledger.stop_lines(batch.id, batch.fence, 10) == [ids[1]]
    ledger.cancel(ids[1])
    batch = ledger.collect_lines(batch.id, batch.fence)
    assert ledger.stop_lines(batch.id, batch.fence, 10) is None
    stopped = LineState.EXPIRED if lapsed else LineState.CANCELLED
    states = [one.state for one in ledger.ended_lines(batch.id, 0, 10)]
    assert states == [LineState.COMPLETED, stopped, stopped]
    done = ledger.end_batch(batch.id, batch.fence, BatchFiles())
    assert done.state is (BatchState.EXPIRED if lapsed else BatchState.CANCELLED)
    assert ledger.cancel_batch("ada", batch.id) == done


def test_a_batch_counts_in_no_day_and_in_no_limit_of_live_work(
    database: Database, clock: Clock
) -> None:
    tiers = {"free": Tier(images_per_day=1, queued_jobs=1, concurrent_renders=1)}
    ledger = database.open(clock=clock, tiers=tiers)
    batch = begun(ledger, 3)
    ledger.feed_lines(batch.id, batch.fence, requests(1, 2, 3))
    assert len(ledger.claim(LANE, "w", 2, 6.0)) == 2
    assert ledger.standing(ADA, LANE).renders == 0
    live = ledger.submit(wish(watched=False)).job
    assert [job.id for job in ledger.claim(LANE, "w", 1, 6.0)] == [live.id]
    ledger.cancel(live.id)
    with pytest.raises(QuotaExceeded):
        ledger.submit(wish())
    for job in ledger.recent("ada", 10):
        ledger.cancel(job.id)
    ledger.expire()
    assert ledger.standing(ADA, LANE).usage.used == 1, "nothing of a batch is given back"
    assert all(job.state is not JobState.FAILED for job in ledger.recent("ada", 10))


def test_an_input_file_that_is_deleted_stays_while_its_batch_needs_it(
    ledger: SqlLedger, clock: Clock
) -> None:
    batch = begun(ledger, 1)
    file = batch.wish.input_file
    assert ledger.drop_file("ada", file)
    assert ledger.file("ada", file) is None
    assert ledger.stale_files(10) == []
    clock.now += 86_401
    assert [one.id for one in ledger.stale_files(10)] == [file]


def test_batches_are_listed_and_forgotten(ledger: SqlLedger, clock: Clock) -> None:
    made = []
    for _ in range(3):
        clock.now += 1
        made.append(begun(ledger, 1))
    ids = [one.id for one in made]
    assert [one.id for one in ledger.batches("ada", 10)] == ids[::-1]
    assert [one.id for one in ledger.batches("ada", 10, after=ids[1])] == ids[:1]
    assert ledger.batches("bob", 10, after=ids[1]) == []
    ledger.cancel_batch("ada", ids[0])
    assert ledger.stop_lines(ids[0], made[0].fence, 10) is None
    ledger.end_batch(ids[0], made[0].fence, BatchFiles())
    assert not ledger.forget_batches(10.0)
    clock.now += 11
    assert ledger.forget_batches(10.0)
    assert ledger.batch("ada", ids[0]) is None
    assert ledger.ended_lines(ids[0], 0, 10) == []
    ledger.forget_tenant("ada")
    assert ledger.batches("ada", 10) == []
    with pytest.raises(BatchLeaseLost):
        ledger.collect_lines(ids[1], made[1].fence)


def test_a_batch_counts_in_heat_as_far_as_its_window_needs(ledger: SqlLedger, clock: Clock) -> None:
    batch = begun(ledger, 100)  # of two seconds each
    ledger.feed_lines(batch.id, batch.fence, requests(*range(1, 11)))
    depth = ledger.depth(LANE)
    assert (depth.waiting, depth.waiting_seconds, depth.arrival_rate) == ({}, 0.0, 0.0)
    assert (depth.batch_jobs, depth.queued_jobs) == (10, 10)
    assert depth.batch_rate == pytest.approx(200 / 86_400)
    clock.now += 86_300
    assert ledger.depth(LANE).batch_rate == pytest.approx(200 / 100)
    job = claim_one(ledger)
    assert (ledger.depth(LANE).running_seconds, ledger.depth(LANE).unbegun_seconds) == (0.0, 0.0)
    ledger.finish_render(job.id, job.fence, 0, picture())
    ledger.collect_lines(batch.id, batch.fence)
    assert ledger.depth(LANE).batch_rate == pytest.approx(198 / 100)


def test_a_live_job_goes_before_all_lines_and_takes_their_slots(ledger: SqlLedger) -> None:
    batch = begun(ledger, 4)
    ledger.feed_lines(batch.id, batch.fence, requests(1, 2, 3, 4))
    line = claim_one(ledger)
    live = ledger.submit(wish(watched=False)).job
    assert estimate(ledger, live.id).position == 0
    (waiting,) = [job for job in ledger.recent("ada", 2) if job.id != live.id]
    assert estimate(ledger, waiting.id).position is not None
    drawing = {line.id: 0.9}
    asking = PreemptionRequest(LANE, "w1", {}, drawing)
    ledger.renew([beat(line, 14)], LEASE_SECONDS)
    assert ledger.preempt(asking) == [line.id]
    assert claim_one(ledger).id == live.id
