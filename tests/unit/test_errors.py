"""The one table from what went wrong to what the client sees."""

from __future__ import annotations

import pytest

from jobs.blobs.store import StoreUnavailable
from jobs.job import Job, JobState, Render, RenderState
from jobs.ledger_errors import (
    IdempotencyMismatch,
    JobUnreadable,
    LedgerError,
    LedgerUnavailable,
    NotYetOpen,
)
from jobs.request import ImageRequest
from serve_app.wire.domain_errors import from_domain
from serve_app.wire.errors import ApiError, from_status
from serve_app.wire.job_problems import job_problem, render_problem


def _kinds(root: type[ApiError]) -> list[type[ApiError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in _kinds(child))]


def _job(state: JobState, *renders: Render) -> Job:
    request = ImageRequest(
        lane="l", tenant="t", tier="free", model="m", prompt="p", n=len(renders), width=256,
        height=256, quality="low", passes=8, guidance=3.0, seed=1,
    )  # fmt: skip
    return Job("j1", request, state, renders)


@pytest.mark.parametrize("kind", _kinds(ApiError))
def test_every_error_has_a_message(kind: type[ApiError]) -> None:
    body = kind().envelope()["error"]
    assert body["message"].endswith(".")
    assert {"message", "type", "param", "code"} <= set(body)


@pytest.mark.parametrize(
    ("raised", "status", "code", "headers"),
    [
        (LedgerUnavailable("disk"), 503, "ledger_unavailable", {"retry-after": "8"}),
        (StoreUnavailable("bucket"), 503, "store_unavailable", {"retry-after": "2"}),
        (JobUnreadable("j1"), 503, "newer_job", {"retry-after": "1"}),
        (NotYetOpen("free", 25), 403, "not_yet_open", {"x-should-retry": "false"}),
        (IdempotencyMismatch("k"), 422, "idempotency_mismatch", {}),
        (LedgerError("?"), 500, None, {}),
        (RuntimeError("secret detail"), 500, None, {}),
    ],
)
def test_domain_errors(raised: Exception, status: int, code: str, headers: dict[str, str]) -> None:
    seen = from_domain(raised)
    assert (seen.status, seen.code, dict(seen.headers)) == (status, code, headers)
    assert "secret" not in seen.message


def test_no_error_is_a_409_which_the_sdk_would_retry() -> None:
    conflicts = [kind for kind in _kinds(ApiError) if kind.status == 409]
    assert all(kind.headers["x-should-retry"] == "false" for kind in conflicts)


def test_what_the_framework_refuses() -> None:
    assert from_status(404).code == "unknown_url"
    refused = from_status(405, {"Allow": "GET"})
    assert (refused.code, refused.headers["Allow"]) == ("method_not_allowed", "GET")
    assert from_status(418).status == 418


def test_a_block_says_where_and_what_for() -> None:
    renders = (
        Render(0, RenderState.BLOCKED, categories=("weapons",), stage="output"),
        Render(1, RenderState.BLOCKED, categories=("sexual", "weapons"), stage="output"),
    )
    problem = job_problem(_job(JobState.BLOCKED, *renders))
    assert problem is not None
    body = problem.body()
    assert (problem.status, body["type"]) == (400, "image_generation_user_error")
    assert body["moderation_details"] == {
        "moderation_stage": "output",
        "categories": ["sexual", "weapons"],
    }
    assert "safety_violations=[sexual, weapons]" in body["message"]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (JobState.SUCCEEDED, 410),  # its picture is kept no longer
        (JobState.QUEUED, None),
        (JobState.RUNNING, None),
        (JobState.FAILED, 500),
        (JobState.BLOCKED, 400),
        (JobState.CANCELLED, 410),
        (JobState.EXPIRED, 410),
    ],
)
def test_how_a_job_ended(state: JobState, status: int | None) -> None:
    problem = job_problem(_job(state, Render(0, RenderState.WAITING)))
    assert (problem.status if problem else None) == status


@pytest.mark.parametrize("state", list(RenderState))
def test_only_settled_images_without_a_picture_have_a_problem(state: RenderState) -> None:
    fine = {"waiting", "rendering", "finishing", "succeeded"}
    assert (render_problem(Render(0, state, blob="x")) is None) == (state.value in fine)
    assert (render_problem(Render(0, state)) is None) == (state.value in fine - {"succeeded"})
