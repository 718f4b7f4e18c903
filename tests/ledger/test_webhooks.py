"""Deliveries of webhooks in the ledger: written with what they tell, made by one gateway at a time,
tried again, given up, and forgotten with their tenant."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from jobs.blobs.erasing import erase_tenant
from jobs.blobs.store import DirectoryBlobs
from jobs.job import Job, RenderState
from jobs.lease import Outcome
from jobs.policy.redelivery import DeliveryRules
from jobs.sql.sql_ledger import SqlLedger
from jobs.webhooks import (
    EVENT_TYPES,
    SAFETY_EVENT,
    ClaimedDelivery,
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    EndpointChange,
    TooManyEndpoints,
    WebhookEndpoint,
    new_endpoint,
    new_secret,
    sample_event,
)
from tests.ledger.test_audit import note
from tests.stages.ledger_kit import Clock, Database, claim_one, picture, refusal, sqlite, wish

RULES = DeliveryRules()
URL = "https://example.com/hook"
DAY = 86_400.0


def add(ledger: SqlLedger, tenant: str = "ada", types: tuple[str, ...] = EVENT_TYPES,
        most: int = 10) -> WebhookEndpoint:  # fmt: skip
    return ledger.add_endpoint(new_endpoint(tenant, "ours", URL, types), most)


def end(ledger: SqlLedger, outcome: Outcome | None = None, **changes: object) -> Job:
    """A job that has been settled."""
    ledger.submit(wish(**changes))
    job = claim_one(ledger)
    return ledger.finish_render(job.id, job.fence, 0, outcome or picture())


def take(ledger: SqlLedger, room: int = 100, **in_hand: int) -> list[ClaimedDelivery]:
    return ledger.claim_deliveries(room, in_hand, RULES)


def settle(ledger: SqlLedger, *taken: ClaimedDelivery, **what: object) -> list[DeliveryState]:
    tried = DeliveryAttempt(taken[0], 200, None)
    attempts = [replace(tried, claimed=one, **what) for one in taken]  # type: ignore[arg-type]
    return ledger.settle_deliveries(attempts, RULES)


def told(ledger: SqlLedger, endpoint: WebhookEndpoint) -> list[tuple[str, dict[str, str]]]:
    """Types and data, oldest first."""
    found = ledger.deliveries(endpoint.tenant, endpoint.id, None, 100)
    return [(one.type, dict(one.data)) for one in found[::-1]]


def only(ledger: SqlLedger, endpoint: WebhookEndpoint) -> Delivery:
    (found,) = ledger.deliveries(endpoint.tenant, endpoint.id, None, 100)
    return found


def test_every_end_of_a_job_is_told_once(ledger: SqlLedger, clock: Clock) -> None:
    endpoint = add(ledger)
    failed = Outcome(RenderState.FAILED, error="NaN in pass 3")
    done = [end(ledger, one) for one in (picture(), failed, refusal("prompt"))]
    ledger.submit(wish())
    (waiting,) = ledger.recent("ada", 1)
    ledger.cancel(waiting.id)
    ledger.cancel(waiting.id)
    overdue = ledger.submit(wish(watched=False, deadline_seconds=10.0)).job
    clock.now += 11.0
    assert ledger.expire() == 1
    ends = ("completed", "failed", "failed", "cancelled", "failed")
    ids = [*(job.id for job in done), waiting.id, overdue.id]
    expected = [
        (f"image.generation.{end}", {"id": job}) for end, job in zip(ends, ids, strict=True)
    ]
    assert sorted(told(ledger, endpoint), key=str) == sorted(expected, key=str)


def test_a_job_with_several_images_is_told_of_with_its_last(ledger: SqlLedger) -> None:
    endpoint = add(ledger)
    ledger.submit(wish(n=2))
    job = claim_one(ledger)
    ledger.finish_render(job.id, job.fence, 0, refusal("output"))
    assert told(ledger, endpoint) == []
    ledger.finish_render(job.id, job.fence, 1, picture())
    assert told(ledger, endpoint) == [("image.generation.completed", {"id": job.id})]


def test_only_chosen_events_of_the_own_tenant_are_told(ledger: SqlLedger) -> None:
    chosen = add(ledger, types=("image.generation.failed",))
    other = add(ledger, tenant="other")
    everything = add(ledger)
    end(ledger)
    assert (told(ledger, chosen), told(ledger, other)) == ([], [])
    assert len(told(ledger, everything)) == 1


def test_a_blocked_order_names_the_user_once(ledger: SqlLedger) -> None:
    endpoint = add(ledger, types=(SAFETY_EVENT,))
    blocks = note("one"), note("one", stage="preview"), note("two", user=None)
    ledger.log_verdicts([*blocks, note("three", "flag"), note("four", categories=())])
    data = {"safety_category": "weapons", "safety_identifier": "reader 7", "request_id": "one"}
    assert sorted(told(ledger, endpoint), key=str) == [
        (SAFETY_EVENT, {**data, "safety_category": "other", "request_id": "four"}),
        (SAFETY_EVENT, data),
    ]


def test_what_is_undone_is_not_told(ledger: SqlLedger) -> None:
    """The rows of a transaction that fails are gone with it."""
    endpoint = add(ledger)
    ledger.submit(wish())
    job = claim_one(ledger)
    done, again = ledger.together(
        [lambda: ledger.finish_render(job.id, job.fence, 0, picture()) for _ in range(2)]
    )
    assert isinstance(done, Job)
    assert isinstance(again, Exception)
    assert len(told(ledger, endpoint)) == 1


def test_a_job_that_waits_again_is_told_again(ledger: SqlLedger) -> None:
    endpoint = add(ledger)
    failed = Outcome(RenderState.FAILED, error="NaN")
    job = end(ledger, failed)
    ledger.requeue(job.id)
    again = claim_one(ledger)
    ledger.finish_render(again.id, again.fence, 0, failed)
    events = {one.event for one in ledger.deliveries("ada", endpoint.id, None, 10)}
    assert len(events) == 2


def test_without_endpoints_a_settled_job_costs_no_statement_more(tmp_path: Path) -> None:
    ledger = sqlite(tmp_path).open()
    written: list[str] = []
    for engine in (ledger._database.durable, ledger._database.relaxed):
        event.listen(engine, "checkout", lambda raw, *_: raw.set_trace_callback(written.append))
    end(ledger)
    assert any(one.startswith("delete from leases") for one in written), "it sees statements"
    assert not [one for one in written if "webhook_deliveries" in one]
    add(ledger)
    end(ledger)
    assert len([one for one in written if one.startswith("insert into webhook_deliveries")]) == 1
    ledger.close()


def test_gateways_share_the_work_and_a_killed_one_loses_nothing(
    database: Database, clock: Clock
) -> None:
    one, two = (database.open(clock=clock) for _ in range(2))
    endpoint = add(one)
    jobs = {end(one).id for _ in range(6)}
    assert one.overdue_deliveries() == 0.0
    first, second = take(one), take(two)
    assert len(first) == RULES.per_endpoint
    assert len(second) == 6 - RULES.per_endpoint
    assert {taken.delivery.data["id"] for taken in (*first, *second)} == jobs
    assert (take(one), one.overdue_deliveries()) == ([], None)
    assert settle(two, *second) == [DeliveryState.DELIVERED] * 2

    clock.now += RULES.lease_seconds
    again = take(two)
    assert {taken.delivery.event for taken in again} == {taken.delivery.event for taken in first}
    settle(two, *again)
    settle(one, *first, status_code=500, error="it answered 500")
    states = Counter(found.state for found in one.deliveries("ada", endpoint.id, None, 10))
    assert states == {DeliveryState.DELIVERED: 6}, "the late word of the first gateway is nothing"
    kept = one.endpoint("ada", endpoint.id)
    assert kept is not None


def test_a_failed_delivery_is_tried_again_for_three_days(ledger: SqlLedger, clock: Clock) -> None:
    endpoint = add(ledger)
    end(ledger)
    began, waits, state = clock.now, [0.0], DeliveryState.WAITING
    long = replace(RULES, disable_seconds=9 * DAY)
    while state is DeliveryState.WAITING:
        clock.now = only(ledger, endpoint).due_at
        waits.append(clock.now - began)
        (taken,) = take(ledger)
        attempt = DeliveryAttempt(taken, 503, "it answered 503", jitter=0.5)
        (state,) = ledger.settle_deliveries([attempt], long)
        assert take(ledger) == []
    assert state is DeliveryState.DEAD
    assert waits[:5] == [0.0, 0.0, 5.0, 15.0, 35.0]
    assert waits[-1] == 3 * DAY
    dead = ledger.deliveries("ada", endpoint.id, DeliveryState.DEAD, 10)
    assert [(one.status_code, one.error) for one in dead] == [(503, "it answered 503")]
    assert ledger.redeliver("other", endpoint.id) == 0
    assert ledger.redeliver("ada", endpoint.id) == 1
    (taken,) = take(ledger)
    again = DeliveryAttempt(taken, 500, "it answered 500")
    assert ledger.settle_deliveries([again], long) == [DeliveryState.WAITING]
    clock.now = only(ledger, endpoint).due_at
    (taken,) = take(ledger)
    assert settle(ledger, taken) == [DeliveryState.DELIVERED]
    assert ledger.redeliver("ada", endpoint.id) == 0, "nothing is dead"
    assert ledger.redeliver("ada", endpoint.id, taken.delivery.event) == 1


def test_an_endpoint_that_is_gone_or_fails_for_days_is_disabled(
    ledger: SqlLedger, clock: Clock
) -> None:
    gone, failing = add(ledger), add(ledger)
    end(ledger)
    taken = {one.endpoint.id: one for one in take(ledger)}
    settle(ledger, taken[gone.id], status_code=410, error="it answered 410", gone=True)
    settle(ledger, taken[failing.id], status_code=500, error="it answered 500")
    first = ledger.endpoint("ada", gone.id)
    assert first is not None
    assert first.disabled_reason == "it answered 410 Gone"
    clock.now += 3 * DAY
    (again,) = take(ledger)
    assert again.endpoint.failing_since is not None
    assert settle(ledger, again, error="it did not answer") == [DeliveryState.DEAD]
    second = ledger.endpoint("ada", failing.id)
    assert second is not None
    assert second.disabled_reason == "its deliveries failed for 3 days"
    end(ledger)
    assert len(told(ledger, failing)) == 1, "nothing is written for it"
    assert take(ledger) == []

    assert ledger.change_endpoint("ada", gone.id, EndpointChange(enabled=True)) is not None
    (waited,) = take(ledger)
    assert (waited.endpoint.id, waited.endpoint.disabled_at) == (gone.id, None)


def test_a_success_forgets_failures(ledger: SqlLedger, clock: Clock) -> None:
    endpoint = add(ledger)
    end(ledger), end(ledger)
    first, second = take(ledger)
    settle(ledger, first, error="no")
    failing = ledger.endpoint("ada", endpoint.id)
    assert failing is not None
    assert failing.failing_since == clock.now
    settle(ledger, replace(second, endpoint=failing))
    well = ledger.endpoint("ada", endpoint.id)
    assert well is not None
    assert well.failing_since is None


def test_an_endpoint_that_fails_gets_one_delivery_at_a_time(ledger: SqlLedger) -> None:
    slow, quick = add(ledger), add(ledger, tenant="eve")
    for _ in range(9):
        end(ledger), end(ledger, tenant="eve")
    taken = take(ledger, 6)
    assert Counter(one.endpoint.id for one in taken) in (
        {slow.id: 4, quick.id: 2},
        {slow.id: 2, quick.id: 4},
    )
    ours = next(one for one in taken if one.endpoint.id == slow.id)
    settle(ledger, ours, error="it took too long")
    more = ledger.claim_deliveries(100, {slow.id: 1}, RULES)
    assert Counter(one.endpoint.id for one in more) == {quick.id: 4}


def test_the_number_of_endpoints_is_bounded_and_they_are_listed(
    ledger: SqlLedger, clock: Clock
) -> None:
    ids = []
    for _ in range(3):
        ids.append(add(ledger, most=3).id)
        clock.now += 1.0
    with pytest.raises(TooManyEndpoints):
        add(ledger, most=3)
    other = add(ledger, tenant="other", most=3)
    assert [one.id for one in ledger.endpoints("ada", 2)] == ids[:0:-1]
    assert [one.id for one in ledger.endpoints("ada", 2, ids[1])] == ids[:1]
    assert [one.id for one in ledger.endpoints(None, 9)] == [other.id, *ids[::-1]]
    assert [one.id for one in ledger.endpoints(None, 9, ids[2])] == ids[1::-1]
    assert ledger.endpoint("other", ids[0]) is None
    assert not ledger.drop_endpoint("other", ids[0])
    assert ledger.change_endpoint("other", ids[0], EndpointChange(name="mine")) is None
    end(ledger)
    assert ledger.drop_endpoint("ada", ids[0])
    assert ledger.deliveries("ada", ids[0], None, 10) == []
    assert len(take(ledger)) == 2


def test_an_endpoint_is_changed(ledger: SqlLedger, clock: Clock) -> None:
    before = add(ledger)
    clock.now += 5.0
    assert ledger.change_endpoint("ada", before.id, EndpointChange(name="ours")) == before
    change = EndpointChange(name="new", url="https://example.org", event_types=(SAFETY_EVENT,))
    after = ledger.change_endpoint("ada", before.id, change)
    assert after is not None
    assert (after.name, after.url, after.event_types) == ("new", change.url, (SAFETY_EVENT,))
    assert (after.created_at, after.updated_at) == (clock.now - 5.0, clock.now)
    keep = EndpointChange(secret=new_secret(), keep_old_secret=True)
    rotated = ledger.change_endpoint("ada", before.id, keep)
    assert rotated is not None
    assert rotated.secrets(clock.now) == (keep.secret, before.secret)
    assert rotated.secrets(clock.now + DAY) == (keep.secret,)
    last = ledger.change_endpoint("ada", before.id, EndpointChange(secret=new_secret()))
    assert last is not None
    assert last.secrets(clock.now) == (last.secret,)
    assert last.secret not in repr(last)
    off = ledger.change_endpoint("ada", before.id, EndpointChange(enabled=False))
    assert off is not None
    assert off.disabled_at == clock.now


def test_deliveries_are_listed_newest_first_page_by_page(ledger: SqlLedger, clock: Clock) -> None:
    endpoint = add(ledger)
    jobs = []
    for _ in range(3):
        jobs.append(end(ledger).id)
        clock.now += 1.0
    page = ledger.deliveries("ada", endpoint.id, None, 2)
    assert [one.data["id"] for one in page] == jobs[:0:-1]
    rest = ledger.deliveries("ada", endpoint.id, DeliveryState.WAITING, 2, page[-1].event)
    assert [one.data["id"] for one in rest] == jobs[:1]
    assert ledger.deliveries("ada", endpoint.id, DeliveryState.DEAD, 2) == []
    assert ledger.deliveries("other", endpoint.id, None, 2) == []


def test_a_sample_is_delivered_whatever_was_chosen(ledger: SqlLedger) -> None:
    endpoint = add(ledger, types=("batch.completed",))
    ledger.queue_event(endpoint, sample_event("ada", SAFETY_EVENT))
    (taken,) = take(ledger)
    assert taken.delivery.type == SAFETY_EVENT


def test_old_deliveries_are_forgotten(ledger: SqlLedger, clock: Clock) -> None:
    endpoint = add(ledger)
    end(ledger), end(ledger)
    first, second = take(ledger)
    settle(ledger, first)
    settle(ledger, second, error="gone", gone=True)
    assert not ledger.forget_deliveries(DAY)
    clock.now += DAY
    assert ledger.forget_deliveries(DAY)
    assert told(ledger, endpoint) == [], "what waits for a disabled endpoint goes, too"
    assert not ledger.forget_deliveries(DAY)


def test_what_waits_for_an_endpoint_that_works_is_never_forgotten(
    ledger: SqlLedger, clock: Clock
) -> None:
    endpoint = add(ledger)
    end(ledger)
    clock.now += 100 * DAY
    assert not ledger.forget_deliveries(DAY)
    assert len(told(ledger, endpoint)) == 1


def test_erasing_a_tenant_erases_its_webhooks(ledger: SqlLedger, tmp_path: Path) -> None:
    ours, others = add(ledger), add(ledger, tenant="other")
    end(ledger), end(ledger, tenant="other")
    ledger.submit(wish())
    erase_tenant(ledger, [DirectoryBlobs(tmp_path / "blobs")], "ada")
    assert ledger.endpoints("ada", 10) == []
    assert told(ledger, ours) == []
    assert len(told(ledger, others)) == 1
