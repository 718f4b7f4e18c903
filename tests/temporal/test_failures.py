"""Answers as failures, and what of an order makes its key: without a server."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.stages.tools import modules

modules("temporalio")

from temporalio.converter import DataConverter
from temporalio.testing import ActivityEnvironment

from meltproof_temporal.bodies import generate_order
from meltproof_temporal.failures import LONGEST_WAIT, refused, retry_after, undrawn
from meltproof_temporal.keys import idempotency_key
from meltproof_temporal.orders import Drawn, Edit, Generate, Picture, Refusal, Tweak, spoken

NOW = datetime(2026, 12, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "delay"),
    [
        ("8", timedelta(seconds=8)),
        ("0", timedelta(0)),
        ("Tue, 01 Dec 2026 12:01:00 GMT", timedelta(minutes=1)),
        ("Tue, 01 Dec 2026 11:00:00 GMT", timedelta(0)),
        ("9" * 4000, LONGEST_WAIT),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(said: str, delay: timedelta | None) -> None:
    assert retry_after({"retry-after": said}, NOW) == delay


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_overload_and_errors_of_the_service_are_tried_again(status: int) -> None:
    failure = refused(status, {"retry-after": "3"}, None, NOW)
    assert not failure.non_retryable
    assert failure.next_retry_delay == timedelta(seconds=3)
    assert failure.type == f"http_{status}"


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 410, 413, 415, 421, 422])
def test_refusals_are_not(status: int) -> None:
    body = {"error": {"code": "some_code", "message": "why", "param": "size"}}
    failure = refused(status, {"retry-after": "3"}, body, NOW)
    assert (failure.type, failure.message) == ("some_code", "why")
    assert failure.non_retryable
    assert failure.next_retry_delay is None
    assert failure.details[0]["param"] == "size"


@pytest.mark.parametrize("body", [None, [], "text", {"error": "text"}, {"error": {}}])
def test_an_answer_of_another_program_is_a_failure_as_well(body: object) -> None:
    assert refused(502, {}, body, NOW).type == "http_502"


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("blocked", "moderation_blocked"),
        ("failed", "render_failed"),
        ("cancelled", "job_cancelled"),
        ("expired", "job_expired"),
    ],
)
def test_a_job_without_a_picture_is_not_ordered_again(state: str, code: str) -> None:
    failure = undrawn({"id": "one", "state": state, "images": [{"error": None}]})
    assert (failure.type, failure.non_retryable) == (code, True)


def test_a_key_names_the_activity_and_neither_run_nor_attempt() -> None:
    info, request = ActivityEnvironment.default_info(), generate_order(Generate(prompt="a fox"))
    key = idempotency_key(info, *request)
    later = replace(info, attempt=7, workflow_run_id="other", task_token=b"other", task_queue="q")
    assert idempotency_key(later, *request) == key
    others = [
        idempotency_key(replace(info, activity_id="other"), *request),
        idempotency_key(replace(info, workflow_id="other"), *request),
        idempotency_key(replace(info, namespace="other"), *request),
        idempotency_key(info, "/elsewhere", request[1]),
        idempotency_key(info, *generate_order(Generate(prompt="an owl"))),
    ]
    assert len({key, *others}) == 1 + len(others)
    assert key.isascii()
    assert len(key) <= 255


def test_only_what_was_set_is_said() -> None:
    assert spoken(Generate(prompt="a fox")) == {"prompt": "a fox"}
    assert spoken(Tweak(picture="img_a_0")) == {"picture": "img_a_0"}
    order = Generate(prompt="a fox", n=2, seed=0, partial_images=1, more={"steps": 4})
    said = {"prompt": "a fox", "n": 2, "seed": 0, "partial_images": 1, "steps": 4}
    assert spoken(order) == said


@pytest.mark.parametrize(
    "value",
    [
        Generate(prompt="a fox", n=2, more={"loras": [{"name": "ink", "weight": 0.5}]}),
        Edit(prompt="a fox", images=["file-a", "img_b_0"], strength=0.5),
        Tweak(picture="img_a_0", delta="at night"),
        Drawn("job", "model", [Picture("img", 0, 7, "http://x"), Picture("i", 1, 8, None)]),
        Drawn("job", "model", [Picture("img", 0, 7, None, Refusal("code", "why"))]),
    ],
)
async def test_orders_and_results_come_through_a_history_unchanged(value: object) -> None:
    payloads = await DataConverter.default.encode([value])
    assert await DataConverter.default.decode(payloads, [type(value)]) == [value]


@pytest.mark.parametrize("kind", [Generate, Edit, Tweak, Drawn, Picture, Refusal])
def test_no_annotation_is_a_text(kind: type) -> None:
    """The sandbox of workflows does not find names of our modules."""
    assert not [one.name for one in fields(kind) if isinstance(one.type, str)]
