"""One ledger, two versions: what a newer one has written is read, or passed over, and never stops
what this one understands."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import Engine, text

from jobs.blobs.erasing import WrittenByNewer, erase_tenant
from jobs.db.rows import request_from_json, request_to_json
from jobs.job import JobState
from jobs.ledger_errors import JobUnreadable
from jobs.request import ImageRequest, SourceImage, WeightedLora
from jobs.sql.sql_ledger import SqlLedger
from scripts.postgres import side_door
from tests.stages.ledger_kit import (
    LEASE_SECONDS,
    Clock,
    Database,
    beat,
    claim_one,
    picture,
    wait_while_rescuing,
    wish,
)


@pytest.fixture
def newer(database: Database) -> Iterator[Engine]:
    """Writes what this version would not."""
    engine = side_door(database.url)
    yield engine
    engine.dispose()


def rewrite(newer: Engine, job_id: str, change: Callable[[dict[str, Any]], object]) -> None:
    """The stored request of a job, as a newer version would have stored it."""
    with newer.begin() as connection:
        where = {"id": job_id}
        found = connection.execute(text("select request from jobs where id = :id"), where)
        request = json.loads(found.scalar_one())
        change(request)
        values = {**where, "request": json.dumps(request)}
        connection.execute(text("update jobs set request = :request where id = :id"), values)


def unreadable(ledger: SqlLedger, newer: Engine, **changes: Any) -> str:
    """A queued job without a field that this version cannot do without."""
    job_id = ledger.submit(wish(**changes)).job.id
    rewrite(newer, job_id, lambda request: request.pop("passes"))
    return job_id


def in_an_unknown_state(newer: Engine, job_id: str) -> None:
    with newer.begin() as connection:
        where = {"id": job_id}
        connection.execute(text("update renders set state = 'upscaling' where job_id = :id"), where)


def state(newer: Engine, job_id: str) -> Mapping[str, Any]:
    with newer.begin() as connection:
        found = connection.execute(text("select * from jobs where id = :id"), {"id": job_id})
        return found.mappings().one()


SOURCE = SourceImage(canvas="inputs/a/canvas", small="inputs/a/small", redraw="ff")


@pytest.mark.parametrize(
    "request_",
    [wish(), wish(source=SOURCE), wish(loras=(WeightedLora("ink", 0.5),))],
    ids=["plain", "edit", "LoRAs"],
)
def test_fields_of_a_newer_version_are_dropped(request_: ImageRequest) -> None:
    values = json.loads(request_to_json(request_)) | {"mood": "gloomy"}
    if request_.source is not None:
        values["source"]["depth"] = "inputs/a/depth"
    for lora in values.get("loras", ()):
        lora["from_pass"] = 3
    assert request_from_json(json.dumps(values)) == request_


def test_what_is_as_by_default_is_not_written() -> None:
    assert "revised" not in json.loads(request_to_json(wish()))
    assert "tokens" not in json.loads(request_to_json(wish(source=SOURCE)))["source"]
    assert "loras" not in json.loads(request_to_json(wish()))
    every = wish(
        output_format="webp", output_compression=80, background="opaque", moderation="low",
        partial_images=2, user="u", cost_seconds=2.0, watched=False, deadline_seconds=5.0,
        idempotency_key="k", body_hash="h", retry_count=1, revised=True,
        loras=(WeightedLora("ink", -0.5), WeightedLora("oil")), steps=5, own_guidance=4.5,
        source=SourceImage(canvas="c", small="s", redraw="r", tokens="t", parent="p", images=2),
    )  # fmt: skip
    assert request_from_json(request_to_json(every)) == every


def test_a_newer_field_is_carried_out_by_whoever_claims_it(
    ledger: SqlLedger, newer: Engine
) -> None:
    job_id = ledger.submit(wish()).job.id
    rewrite(newer, job_id, lambda request: request.update(mood="gloomy"))
    job = claim_one(ledger)
    assert (job.id, job.request) == (job_id, wish())
    assert ledger.finish_render(job.id, job.fence, 0, picture()).state is JobState.SUCCEEDED


def test_a_claim_looks_behind_what_it_cannot_read(ledger: SqlLedger, newer: Engine) -> None:
    """Also behind more of them than it wants jobs; a newer dispatcher can take them yet."""
    passed = [unreadable(ledger, newer) for _ in range(5)]
    good = [ledger.submit(wish()).job.id for _ in range(3)]
    claimed = [job.id for _ in range(4) for job in ledger.claim("chat", "w", 1, LEASE_SECONDS)]
    assert claimed == good
    assert all(state(newer, job_id)["state"] == "queued" for job_id in passed)
    assert all(state(newer, job_id)["fence"] == 0 for job_id in passed)


def test_lists_go_without_it(
    ledger: SqlLedger, newer: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = ledger.submit(wish()).job.id, unreadable(ledger, newer)
    in_an_odd_state = ledger.submit(wish()).job.id
    in_an_unknown_state(newer, in_an_odd_state)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [job.id for job in ledger.recent("ada", 9)] == [good]
            found = ledger.get_many([good, bad, in_an_odd_state])
            assert [job.id for job in found] == [good]
    told = [record.getMessage() for record in caplog.records if "passed over" in record.msg]
    assert sorted(job_id for line in told for job_id in (bad, in_an_odd_state) if job_id in line) \
        == sorted([bad, in_an_odd_state]), "each once"  # fmt: skip
    assert ledger.depth("chat").queued_jobs == 3


def test_one_by_itself_is_not_unknown(ledger: SqlLedger, newer: Engine) -> None:
    job_id = unreadable(ledger, newer, idempotency_key="k", body_hash="b")
    with pytest.raises(JobUnreadable, match=job_id):
        ledger.get(job_id)
    with pytest.raises(JobUnreadable, match=job_id):
        ledger.cancel(job_id)
    with pytest.raises(JobUnreadable, match=job_id):
        ledger.submit(wish(idempotency_key="k", body_hash="b"))
    assert ledger.get("00") is None
    assert state(newer, job_id)["state"] == "queued"


def test_it_does_not_keep_others_from_expiring(
    database: Database, newer: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when as many of them as are looked at in one round are overdue before the others."""
    monkeypatch.setattr("jobs.sql.expiring._EXPIRE_AT_ONCE", 2)
    clock = Clock()
    ledger = database.open(clock=clock)
    overdue = {"deadline_seconds": 5.0, "watched": False}
    bad = [unreadable(ledger, newer, **overdue) for _ in range(3)]
    bad += [unreadable(ledger, newer) for _ in range(3)]
    late = ledger.submit(wish(**overdue)).job.id
    left_alone = ledger.submit(wish()).job.id
    wait_while_rescuing(ledger, clock, 610, every=10)
    assert state(newer, late)["state"] == "expired"
    assert state(newer, left_alone)["state"] == "cancelled"
    assert [state(newer, job_id)["state"] for job_id in bad] == ["queued"] * 6


def test_a_lapsed_lease_of_a_newer_dispatcher_stops_no_rescue(
    database: Database, newer: Engine
) -> None:
    clock = Clock()
    ledger = database.open(clock=clock)
    for _ in range(2):
        ledger.submit(wish(watched=False))
    bad, good = ledger.claim("chat", "w1", 2, LEASE_SECONDS)
    in_an_unknown_state(newer, bad.id)
    wait_while_rescuing(ledger, clock, 2 * LEASE_SECONDS + 2)
    assert state(newer, good.id)["state"] == "queued"
    assert state(newer, bad.id)["state"] == "leased"
    depth = ledger.depth("chat")
    assert (depth.queued_jobs, depth.active_jobs) == (1, 1)


def test_heartbeats_of_others_go_on(ledger: SqlLedger, newer: Engine) -> None:
    for _ in range(2):
        ledger.submit(wish())
    bad, good = ledger.claim("chat", "w1", 2, LEASE_SECONDS)
    in_an_unknown_state(newer, bad.id)
    renewals = ledger.renew([beat(bad, 1), beat(good, 1)], LEASE_SECONDS)
    assert [renewal.held for renewal in renewals] == [False, True]
    assert good.id in ledger.estimates([good.id])


def test_an_erasure_says_what_it_cannot_read(ledger: SqlLedger, newer: Engine) -> None:
    bad = unreadable(ledger, newer)
    ledger.submit(wish())
    with pytest.raises(WrittenByNewer, match="1 jobs or more"):
        erase_tenant(ledger, [], "ada", patience_seconds=1.0)
    assert state(newer, bad)["tenant"] == "ada"
    assert ledger.recent("ada", 9) == [], "what it can read is gone"
