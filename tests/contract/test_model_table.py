"""The Ledger's contract: models announce themselves. Run on every database."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.announcements import SILENT_SECONDS, AnnouncedModel, Announcement
from jobs.ledger import Ledger
from jobs.queues import lane_of, queue_name
from jobs.retention import Retention, Step
from jobs.sql.announcing import RENEW_SECONDS
from jobs.sql.sql_ledger import SqlLedger
from tests.stages.ledger_kit import LEASE_SECONDS, Clock, picture, wish


def model(name: str = "photo", queue: str = "chat", **changes: Any) -> Announcement:
    fields: dict[str, Any] = {
        "lane": "chat", "name": name, "queue": queue, "aliases": ("dall-e-3",), "family": "paced",
        "capabilities": {"grid": [16, 16], "input_images": 1}, "guidance": 2.5, "size": "256x256",
        "qualities": {"low": 4, "high": 16}, "pass_seconds": 0.05, "identity": "0123abcd",
    }  # fmt: skip
    return Announcement(**(fields | changes))


def known(ledger: Ledger, lane: str = "chat") -> list[tuple[str, str]]:
    return [(one.announcement.name, one.announcement.queue) for one in ledger.models(lane)]


def only(ledger: Ledger) -> AnnouncedModel:
    (found,) = ledger.models("chat")
    return found


def test_a_model_is_read_as_it_was_announced(ledger: Ledger, clock: Clock) -> None:
    ledger.announce(model(), ready=False)
    assert only(ledger) == AnnouncedModel(model(), clock.now, None, clock.now, clock.now)
    assert not only(ledger).available, "no decoder of it has accepted anything"
    began, clock.now = clock.now, clock.now + 3
    ledger.announce(model(), ready=True)
    assert only(ledger) == AnnouncedModel(model(), began, clock.now, clock.now, clock.now)
    assert only(ledger).available
    assert ledger.models("api") == []


def test_a_silent_model_stays_listed_until_it_is_withdrawn(ledger: Ledger, clock: Clock) -> None:
    ledger.announce(model(), ready=True)
    clock.now += SILENT_SECONDS - 1
    assert only(ledger).available
    clock.now += 1
    assert not only(ledger).available
    ledger.announce(model(), ready=False)
    assert not only(ledger).available, "it is back, and its decoders are not"
    ledger.announce(model(), ready=True)
    assert only(ledger).ready_at == clock.now
    assert not ledger.withdraw_model("chat", "sketch")
    assert not ledger.withdraw_model("api", "photo")
    assert ledger.withdraw_model("chat", "photo")
    assert ledger.models("chat") == []


def test_a_model_is_ready_as_long_as_it_says_so(ledger: Ledger, clock: Clock) -> None:
    ledger.announce(model(), ready=True)
    ready_at, clock.now = clock.now, clock.now + RENEW_SECONDS
    ledger.announce(model(), ready=True)
    assert (only(ledger).ready_at, only(ledger).seen_at) == (ready_at, clock.now)
    clock.now += RENEW_SECONDS / 2
    ledger.announce(model(), ready=False)
    assert (only(ledger).ready_at, only(ledger).seen_at) == (None, clock.now), "its decoders left"
    ledger.announce(model(identity="other weights"), ready=True)
    assert only(ledger).ready_at == clock.now


def test_what_was_just_announced_is_not_written_again(ledger: SqlLedger, clock: Clock) -> None:
    ledger.announce(model(), ready=True)
    began, clock.now = clock.now, clock.now + RENEW_SECONDS / 2
    ledger.announce(model(), ready=True)
    assert only(ledger).seen_at == began
    ledger.announce(model(guidance=3.0), ready=True)
    assert (only(ledger).seen_at, only(ledger).announcement.guidance) == (clock.now, 3.0)


def test_the_first_model_of_a_lane_comes_first(ledger: Ledger, clock: Clock) -> None:
    ledger.announce(model("sketch", queue_name("chat", "sketch")), ready=True)
    clock.now += 1
    ledger.announce(model("anime", queue_name("chat", "anime")), ready=True)
    clock.now += 1
    ledger.announce(model("photo"), ready=True)
    assert known(ledger) == [
        ("photo", "chat"), ("sketch", "chat/sketch"), ("anime", "chat/anime"),
    ]  # fmt: skip


def test_a_queue_has_one_model_and_a_model_one_queue(ledger: Ledger) -> None:
    ledger.announce(model("old"), ready=True)
    ledger.announce(model("new"), ready=False)
    assert known(ledger) == [("new", "chat")], "another model draws that queue now"
    assert not only(ledger).available
    ledger.announce(model("new", "chat/new"), ready=False)
    assert known(ledger) == [("new", "chat/new")]


def test_what_a_newer_version_announces_beside_is_ignored() -> None:
    said = model().to_json().replace('"family"', '"mood": "blue", "family"')
    assert Announcement.of_row("chat", "photo", "chat", said) == model()


@pytest.mark.parametrize(
    ("queue", "lane"), [("chat", "chat"), ("chat/photo", "chat"), ("chat/org/photo", "chat")]
)
def test_a_queue_is_of_one_lane(queue: str, lane: str) -> None:
    assert lane_of(queue) == lane


def test_a_lane_forgets_the_jobs_of_all_its_models(ledger: SqlLedger, clock: Clock) -> None:
    """Also of one that was withdrawn, whose dispatchers are gone."""
    ids = []
    for queue in ("chat", "chat/photo", "api"):
        ids.append(ledger.submit(wish(lane=queue)).job.id)
        (job,) = ledger.claim(queue, "w", 1, LEASE_SECONDS)
        ledger.finish_render(job.id, job.fence, 0, picture(f"images/{job.id}.png"))
    kept = Retention()
    clock.now += kept.images_seconds + 1
    batch = ledger.retire("chat", Step.IMAGES, kept)
    assert batch is not None
    assert sorted(batch.blobs) == sorted(ids[:2])
