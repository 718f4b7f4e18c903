"""Operators see jobs of all tenants, and cancel or requeue them; every change is logged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from jobs.job import JobState
from tests.stages.databases import PostgresServer
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until

KEYS = [
    {"key": "sk-local", "tenant": "local"},
    {"key": "sk-other", "tenant": "other"},
    {"key": "sk-ops", "tenant": "ops", "role": "operator"},
]
OPS = {"authorization": "Bearer sk-ops"}
JOBS = "/v1/operator/jobs"


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = stack.enter_context(server.database())
        folder: Path = tmp_path_factory.mktemp("operator")
        yield stack.enter_context(stage(folder, config(keys=KEYS), url))


@pytest.fixture
def ops(shared: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared.url, headers=OPS, timeout=60) as made:
        yield made


def ordered(shared: Stage, prompt: str, key: str = "sk-local") -> str:
    headers = {"authorization": f"Bearer {key}", "prefer": "respond-async"}
    url = f"{shared.url}/v1/images/generations"
    answer = httpx.post(url, json={"prompt": prompt}, headers=headers)
    return str(answer.json()["id"])


def ended(shared: Stage, prompt: str, key: str = "sk-local") -> str:
    job_id = ordered(shared, prompt, key)

    def over() -> bool:
        job = shared.ledger.get(job_id)
        return job is not None and job.ended

    wait_until(over, "the job ends")
    return job_id


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", JOBS), ("GET", f"{JOBS}/a"), ("POST", f"{JOBS}/a/cancel"),
     ("POST", f"{JOBS}/a/requeue")],
)  # fmt: skip
def test_tenants_are_turned_away(shared: Stage, method: str, path: str) -> None:
    answer = httpx.request(method, shared.url + path, headers=shared.headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "operator_required"


def test_jobs_of_all_tenants_without_their_prompts(shared: Stage, ops: httpx.Client) -> None:
    mine, others = ended(shared, "a red fox"), ended(shared, "a blue fox", "sk-other")
    body = ops.get(JOBS, params={"limit": 2}).json()
    assert [job["id"] for job in body["data"]] == [others, mine]
    assert "fox" not in str(body)
    job = body["data"][1]
    assert (job["tenant"], job["state"], job["actions"]) == ("local", "succeeded", [])
    assert (job["passes_done"], job["images"][0]["stored"]) == (job["passes_total"], True)
    assert ops.get(f"{JOBS}/{mine}").json()["id"] == mine
    of_tenant = ops.get(JOBS, params={"tenant": "other", "model": "test-model"}).json()
    assert {job["tenant"] for job in of_tenant["data"]} == {"other"}
    again = ops.get(JOBS, params={"limit": 1}).json()
    after = ops.get(JOBS, params={"limit": 1, "cursor": again["next_cursor"]}).json()
    assert [job["id"] for job in after["data"]] == [mine]


def test_a_waiting_job_is_cancelled_and_a_failed_one_requeued(
    shared: Stage, ops: httpx.Client
) -> None:
    broken = ended(shared, "broken")
    failed = ops.get(JOBS, params={"state": "failed"}).json()
    assert (failed["order"], failed["data"][0]["id"]) == ("failed", broken)
    assert failed["data"][0]["actions"] == ["requeue"]
    shared.worker.pause()
    waiting = ordered(shared, "a red fox")
    slow = ops.get(JOBS, params={"slow": "waiting"}).json()
    assert [job["id"] for job in slow["data"]] == [waiting]
    refused = ops.post(f"{JOBS}/{waiting}/requeue")
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert refused.json()["error"]["code"] == "illegal_transition"
    cancelled = ops.post(f"{JOBS}/{waiting}/cancel").json()
    assert (cancelled["state"], cancelled["actions"]) == ("cancelled", [])
    assert ops.post(f"{JOBS}/{waiting}/cancel").status_code == 409
    again = ops.post(f"{JOBS}/{broken}/requeue").json()
    assert (again["state"], again["finished_at"]) == ("queued", None)
    shared.worker.resume()

    def failed_again() -> bool:
        job = shared.ledger.get(broken)
        return job is not None and job.state is JobState.FAILED

    wait_until(failed_again, "the worker takes it again")
    calls = shared.ledger.admin_calls(4)
    assert [(call.operator, call.action, call.target, call.outcome) for call in calls] == [
        ("ops", "jobs requeue", broken, "done"),
        ("ops", "jobs cancel", waiting, "illegal_transition"),
        ("ops", "jobs cancel", waiting, "done"),
        ("ops", "jobs requeue", waiting, "illegal_transition"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", "gone"), ("slow", "very"), ("failed_since", "yesterday"), ("limit", "0"),
     ("limit", "101"), ("cursor", "bmV3ZXN0"), ("cursor", "ÿ"), ("tennant", "ada")],
)  # fmt: skip
def test_what_is_not_understood_is_refused(ops: httpx.Client, name: str, value: str) -> None:
    answer = ops.get(JOBS, params={name: value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


def test_what_is_not_there(ops: httpx.Client) -> None:
    for path in (f"{JOBS}/none", f"{JOBS}/{'a' * 65}"):
        assert ops.get(path).json()["error"]["code"] == "job_not_found"
    assert ops.post(f"{JOBS}/none/cancel").status_code == 404
    assert ops.get(JOBS, params={"model": "none"}).json()["error"]["code"] == "model_not_found"
    other = ops.get(JOBS, params={"limit": 1}).json()["next_cursor"]
    refused = ops.get(JOBS, params={"slow": "waiting", "cursor": other})
    assert refused.json()["error"]["param"] == "cursor"
