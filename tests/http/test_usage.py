"""Usage for operators: in OpenAI's shape, with OpenAI's own client, and as a list of tenants."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import httpx
import openai
import pytest

from jobs.sql.sql_ledger import SqlLedger
from jobs.usage import DAY_SECONDS, HOUR_SECONDS
from tests.http.test_operator_jobs import KEYS, OPS
from tests.stages.databases import PostgresServer
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import Clock, picture, wish

TODAY = int(time.time()) // DAY_SECONDS * DAY_SECONDS
USAGE, TENANTS = "/v1/organization/usage/images", "/v1/operator/tenants"


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    with ExitStack() as stack:
        url = None
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = stack.enter_context(server.database())
        folder = tmp_path_factory.mktemp("usage")
        it = stack.enter_context(stage(folder, config(keys=KEYS), url))
        spend(it)
        yield it


def spend(it: Stage) -> None:
    """Two tenants, on three days."""
    clock = Clock()
    ledger = SqlLedger(it.database, clock=clock)
    for tenant, days_ago, hour, gpu_seconds, model in (
        ("ada", 3, 1, 1.0, "one"), ("ada", 1, 1, 2.0, "one"), ("bob", 1, 1, 4.0, "two"),
        ("bob", 1, 23, 8.0, "one"), ("ada", 0, 0, 3.0, "one"),
    ):  # fmt: skip
        clock.now = TODAY - days_ago * DAY_SECONDS + hour * HOUR_SECONDS + 1.0
        ledger.submit(wish(tenant=tenant, model=model, watched=False))
        (job,) = ledger.claim("chat", "w", 1, 60.0)
        outcome = replace(picture(), gpu_seconds=gpu_seconds)
        ledger.finish_render(job.id, job.fence, 0, outcome)
    ledger.close()


@pytest.fixture
def ops(shared: Stage) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared.url, headers=OPS, timeout=60) as made:
        yield made


def test_openais_client_reads_it(shared: Stage) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", admin_api_key="sk-ops", api_key="x") as client:
        usage = client.admin.organization.usage
        start = TODAY - 3 * DAY_SECONDS
        page = usage.images(start_time=start, group_by=["project_id", "model"], limit=3)
        assert (page.object, page.has_more) == ("page", True)
        sums = [
            [(r.project_id, r.model, r.images) for r in bucket.results]  # type: ignore[union-attr]
            for bucket in page.data
        ]
        assert sums == [
            [("ada", "one", 1)], [], [("bob", "one", 1), ("bob", "two", 1), ("ada", "one", 1)],
        ]  # fmt: skip
        last = usage.images(start_time=start, page=page.next_page or "")
        assert [bucket.start_time for bucket in last.data] == [TODAY]
        assert (last.has_more, last.next_page) == (False, None)
        bobs = usage.images(
            start_time=start, project_ids=["bob"], models=["two"], bucket_width="1h", limit=168
        )
        (bucket,) = [bucket for bucket in bobs.data if bucket.results]
        assert bucket.start_time == TODAY - DAY_SECONDS + HOUR_SECONDS


def test_sums_of_their_own_fields(ops: httpx.Client) -> None:
    body = ops.get(USAGE, params={"start_time": TODAY - 3 * DAY_SECONDS}).json()
    results = [result for bucket in body["data"] for result in bucket["results"]]
    assert [result["gpu_seconds"] for result in results] == [1.0, 14.0, 3.0]
    assert {result["joules"] for result in results} == {None}
    part = {"start_time": TODAY - DAY_SECONDS + 2 * HOUR_SECONDS, "end_time": TODAY}
    (bucket,) = ops.get(USAGE, params=part).json()["data"]
    assert [result["gpu_seconds"] for result in bucket["results"]] == [8.0], "of that day's rest"


def test_top_tenants(ops: httpx.Client, shared: Stage) -> None:
    window = {"start_time": TODAY - 3 * DAY_SECONDS}
    body = ops.get(TENANTS, params=window).json()
    assert [(one["tenant"], one["gpu_seconds"], one["images"]) for one in body["data"]] == [
        ("bob", 12.0, 2), ("ada", 6.0, 3),
    ]  # fmt: skip
    assert (body["gpu_seconds"], body["images"], body["data"][0]["share"]) == (18.0, 5, 0.6667)
    most = ops.get(TENANTS, params={**window, "order": "images", "limit": 1}).json()["data"]
    assert [one["tenant"] for one in most] == ["ada"]
    of_model = ops.get(TENANTS, params={**window, "model": "two"}).json()["data"]
    assert [one["gpu_seconds"] for one in of_model] == [4.0]
    assert ops.get(TENANTS, params={"start_time": 0, "end_time": 7200}).json()["data"] == []
    for path in (TENANTS, USAGE):
        answer = httpx.get(shared.url + path, headers=shared.headers)
        assert answer.json()["error"]["code"] == "operator_required"


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({}, "start_time"),
        ({"start_time": "x"}, "start_time"),
        ({"start_time": "10", "end_time": "10"}, "end_time"),
        ({"start_time": "10", "bucket_width": "1m"}, "bucket_width"),
        ({"start_time": "10", "group_by": "user_id"}, "group_by"),
        ({"start_time": "10", "group_by[]": "mood"}, "group_by"),
        ({"start_time": "10", "api_key_ids[]": "key"}, "api_key_ids"),
        ({"start_time": "10", "limit": "32"}, "limit"),
        ({"start_time": "10", "page": "two"}, "page"),
    ],
)
def test_what_is_not_understood_is_refused(
    ops: httpx.Client, params: dict[str, str], param: str
) -> None:
    answer = ops.get(USAGE, params=params)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_page_has_whole_buckets(ops: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.wire.usage.MOST_RESULTS", 2)
    asked = {"start_time": str(TODAY - 3 * DAY_SECONDS), "group_by": "project_id"}
    body = ops.get(USAGE, params=asked).json()
    starts = [bucket["start_time"] for bucket in body["data"]]
    assert starts == [TODAY - days * DAY_SECONDS for days in (3, 2)]
    rest = ops.get(USAGE, params={**asked, "page": body["next_page"]}).json()
    assert [len(bucket["results"]) for bucket in rest["data"]] == [2]
    one = {"start_time": str(TODAY - DAY_SECONDS), "group_by": ["project_id", "model"]}
    assert ops.get(USAGE, params=one).json()["error"]["param"] == "group_by"
