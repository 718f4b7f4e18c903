"""Several models behind one gateway: which one a request means, and what each has for itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from autoscaling import temporary_limits
from engine.capabilities import capabilities
from jobs.announcements import SILENT_SECONDS, Announcement
from jobs.job import Job
from jobs.limit_levels import LimitLevel
from jobs.request import WeightedLora
from jobs.sql.sql_ledger import SqlLedger
from serve_app.config.errors import ConfigError
from serve_app.gateway import adopt
from serve_app.orders import lane_models
from tests.stages.http_stage import Stage, config, newest, stage
from tests.stages.ledger_kit import wait_until

PHOTO = {"name": "photo", "family": "paced", "size": "128x128", "aliases": ["dall-e-3"]}
SKETCH = {
    "name": "sketch",
    "size": "64x64",
    "guidance": 4.0,
    "pass_seconds": 0.5,
    "qualities": {"low": 2, "medium": 3, "high": 4, "xhigh": 5, "max": 6},
}
HOT = {"above_seconds": 60, "below_seconds": 30, "tiers": {"free": {"images_per_day": 1}}}
IMAGES = "/v1/images/generations"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_models, "FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr(temporary_limits, "FOLLOW_SECONDS", 0.01)


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Stage]:
    settings = config(
        model={},
        models=[PHOTO, SKETCH],
        tiers={
            "free": {"images_per_day": 50},
            "poor": {"images_per_day": 2},
            "q": {"queued_jobs": 1},
        },
        keys=[
            {"key": "sk-local", "tenant": "local"},
            {"key": "sk-poor", "tenant": "poor", "tier": "poor"},
            {"key": "sk-q", "tenant": "q", "tier": "q"},
        ],
        temporary_limits=[HOT],
    )
    with stage(tmp_path, settings) as running:
        yield running


def order(http: httpx.Client, key: str = "sk-local", **wishes: Any) -> httpx.Response:
    said = {"authorization": f"Bearer {key}", "prefer": "respond-async"}
    if idempotency := wishes.pop("idempotency", None):
        said["idempotency-key"] = idempotency
    return http.post(IMAGES, json={"prompt": "a red fox", **wishes}, headers=said)


def drawn(http: httpx.Client, **wishes: Any) -> str:
    answer = http.post(IMAGES, json={"prompt": "a red fox", **wishes})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"][0]["id"])


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def where(job: Job) -> tuple[str, str]:
    return job.request.model, job.request.lane


def anime() -> Announcement:
    return Announcement(
        lane="default", name="anime", queue="default/anime", aliases=("manga",), family="paced",
        capabilities=asdict(capabilities("paced", {})), guidance=1.0, size="96x96",
        qualities={"medium": 7}, pass_seconds=0.1, identity="0123",
    )  # fmt: skip


def listed(client: openai.OpenAI) -> dict[str, bool]:
    return {one.id: one.available for one in client.models.list()}  # type: ignore[attr-defined]


def test_the_model_that_is_named_draws_by_its_own_numbers(
    http: httpx.Client, shared: Stage
) -> None:
    drawn(http)
    assert where(newest(shared)) == ("photo", "default"), "the first, when none is named"
    assert (newest(shared).request.width, newest(shared).request.passes) == (128, 12)
    drawn(http, model="dall-e-3")
    assert where(newest(shared)) == ("photo", "default")
    assert order(http, model="sketch", n=2).status_code == 202
    request = newest(shared).request
    assert where(newest(shared)) == ("sketch", "default/sketch")
    assert (request.width, request.passes, request.guidance) == (64, 3, 4.0)
    assert request.cost_seconds == 2 * 3 * 0.5
    answer = http.post(IMAGES, json={"prompt": "a fox", "model": "sketch"}).json()
    assert answer["usage"]["output_tokens"] == 64, "the sketch's cells, not the photo's 256"


def test_an_unknown_model_is_answered_with_those_there_are(http: httpx.Client) -> None:
    for answer in (order(http, model="dall-e-2"), http.get("/v1/models/dall-e-2")):
        assert code(answer) == (404, "model_not_found")
        assert answer.json()["error"]["message"] == (
            "The model 'dall-e-2' does not exist. This server draws with 'photo', 'sketch'."
        )
    assert code(http.get("/v1/status?model=dall-e-2")) == (404, "model_not_found")


def test_all_models_are_listed_with_what_they_can(client: openai.OpenAI) -> None:
    assert listed(client) == {"photo": False, "sketch": False}
    assert client.models.retrieve("dall-e-3").id == "photo"
    can = client.models.retrieve("sketch").capabilities  # type: ignore[attr-defined]
    assert (can["sizes"]["auto"], can["qualities"]["max"]) == ("64x64", 6)
    assert (can["steps"]["most"], can["guidance"]["auto"]) == (6, 4.0)
    assert can["grid"] == {"columns": 8, "rows": 8}


def test_a_model_comes_and_goes_without_a_restart(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    said = replace(anime(), name="photo", queue="default")
    shared.ledger.announce(said, ready=True)
    shared.ledger.announce(anime(), ready=True)
    wait_until(lambda: listed(client) == {"photo": True, "sketch": False, "anime": True}, "seen")
    assert order(http, model="manga").status_code == 202
    request = newest(shared).request
    assert (request.model, request.lane, request.width, request.passes) == (
        "anime", "default/anime", 96, 7,
    )  # fmt: skip
    assert code(order(http, model="anime", quality="high")) == (400, "invalid_value")
    late = time.time() - SILENT_SECONDS
    with closing(SqlLedger(shared.database, clock=lambda: late)) as past:
        past.withdraw_model("default", "anime")
        past.announce(anime(), ready=True)
    wait_until(lambda: listed(client).get("anime") is False, "it is away")
    assert order(http, model="anime").status_code == 202, "its jobs wait"
    assert shared.ledger.withdraw_model("default", "anime")
    wait_until(lambda: "anime" not in listed(client), "it is withdrawn")
    assert code(order(http, model="anime")) == (404, "model_not_found")


def test_a_model_that_starts_with_the_work_says_how_long_that_takes(
    http: httpx.Client, shared: Stage
) -> None:
    asleep = replace(anime(), start_seconds=40.0)
    photo = replace(anime(), name="photo", queue="default", start_seconds=20.0)

    def starts() -> dict[str, float | None]:
        return {one["id"]: one["start_seconds"] for one in http.get("/v1/models").json()["data"]}

    for ready, expected in ((True, (20.0, 40.0)), (False, (None, None))):
        for one in (photo, asleep):
            shared.ledger.announce(one, ready=ready)
        wait_until(
            lambda: (starts()["photo"], starts().get("anime", -1)) == expected,  # noqa: B023
            "they are known",
        )
    assert starts()["sketch"] is None


def test_each_model_has_a_queue_of_its_own(http: httpx.Client, shared: Stage) -> None:
    shared.worker.pause()
    ids = [order(http, model="sketch").json()["id"] for _ in range(3)]
    ids.append(order(http, model="photo").json()["id"])
    places = [http.get(f"/v1/jobs/{job_id}").json()["queue_position"] for job_id in ids]
    assert places == [0, 1, 2, 0]
    sketch, photo = (http.get(f"/v1/status?model={one}").json() for one in ("sketch", "photo"))
    assert (sketch["lane"], sketch["waiting"]["free"]["jobs"]) == ("default/sketch", 3)
    assert sketch["waiting"]["free"]["gpu_seconds"] == 3 * 3 * 0.5
    assert (photo["lane"], photo["waiting"]["free"]["jobs"]) == ("default", 1)
    assert http.get("/v1/limits?model=sketch").json()["queued_jobs"]["used"] == 3
    assert http.get("/v1/limits").json()["queued_jobs"]["used"] == 1
    assert order(http, "sk-q", model="sketch").status_code == 202
    assert order(http, "sk-q", model="sketch").status_code == 429, "its tier has one place there"
    assert order(http, "sk-q", model="photo").status_code == 202
    shared.worker.resume()


def test_quota_holds_over_all_models(http: httpx.Client, shared: Stage) -> None:
    first = order(http, "sk-poor", model="photo", idempotency="one")
    assert order(http, "sk-poor", model="sketch", idempotency="two").status_code == 202
    for name in ("photo", "sketch"):
        assert code(order(http, "sk-poor", model=name)) == (429, "insufficient_quota")
    again = order(http, "sk-poor", model="photo", idempotency="one")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"]), "it is a retry"
    assert len(shared.jobs("poor")) == 2


def test_only_the_hot_model_tightens_limits(http: httpx.Client, shared: Stage) -> None:
    assert order(http, model="sketch").status_code == 202
    hot = LimitLevel(level=1, since=time.time(), read_at=time.time())
    assert shared.ledger.move_limits("default/sketch", LimitLevel(), hot)

    def limit(name: str) -> int:
        return int(http.get(f"/v1/limits?model={name}").json()["images_per_day"]["limit"])

    wait_until(lambda: limit("sketch") == 1, "the limits are known")
    assert limit("photo") == 50
    refused = order(http, model="sketch")
    assert (refused.status_code, order(http, model="photo").status_code) == (429, 202)


def test_a_picture_is_changed_by_the_model_that_drew_it(http: httpx.Client, shared: Stage) -> None:
    image = drawn(http, model="sketch")
    tweaked = http.post(f"/v1/images/{image}/tweaks", json={"delta": "at night"})
    assert tweaked.status_code == 200, tweaked.text
    assert where(newest(shared)) == ("sketch", "default/sketch")
    assert newest(shared).request.cost_seconds == newest(shared).request.passes * 0.5
    edit = {"prompt": "rain", "images": [{"file_id": image}]}
    assert http.post("/v1/images/edits", json=edit).status_code == 200
    assert where(newest(shared)) == ("sketch", "default/sketch")
    assert http.post("/v1/images/edits", json={**edit, "model": "photo"}).status_code == 200
    assert where(newest(shared)) == ("photo", "default")
    again = http.post(f"/v1/images/{image}/tweaks", json={"model": "photo", "delta": "at night"})
    assert again.status_code == 200, again.text
    assert where(newest(shared)) == ("photo", "default")
    lineage = http.get(f"/v1/images/{image}/lineage").json()
    assert len(lineage["children"]) == 4


def test_loras_are_those_of_the_model(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    can = replace(capabilities("paced", {}), loras=("ink", "oil"), loras_max=2)
    shared.ledger.announce(replace(anime(), capabilities=asdict(can)), ready=True)
    wait_until(lambda: "anime" in listed(client), "it is known")
    shown = client.models.retrieve("anime").capabilities  # type: ignore[attr-defined]
    assert (shown["loras"], shown["loras_max"]) == (["ink", "oil"], 2)
    shared.worker.queues.append("default/anime")
    asked = [{"name": "oil", "weight": -0.5}, {"name": "ink"}]
    kept = (WeightedLora("oil", -0.5), WeightedLora("ink"))
    image = drawn(http, model="anime", loras=asked)
    assert newest(shared).request.loras == kept
    assert http.get(f"/v1/images/{image}").json()["loras"] == [
        {"name": "oil", "weight": -0.5},
        {"name": "ink", "weight": 1.0},
    ]
    tweaks, edits = f"/v1/images/{image}/tweaks", "/v1/images/edits"
    for said, expected in (({"delta": "at night"}, kept), ({"loras": []}, ())):
        assert http.post(tweaks, json=said).status_code == 200
        assert newest(shared).request.loras == expected
    edit = {"prompt": "rain", "images": [{"file_id": image}], "loras": asked[1:]}
    assert http.post(edits, json=edit).status_code == 200
    assert newest(shared).request.loras == kept[1:]
    form = {"prompt": "rain", "model": "anime", "loras": json.dumps(asked)}
    files = {"image": httpx.get(http.get(f"/v1/images/{image}").json()["url"]).content}
    assert http.post(edits, data=form, files=files).status_code == 200
    assert newest(shared).request.loras == kept
    error = order(http, model="anime", loras=[{"name": "tar"}]).json()["error"]
    assert (error["param"], error["code"]) == ("loras", "invalid_value")
    assert "there is no 'tar'; this model has 'ink', 'oil'" in error["message"]
    refused = (http.post(tweaks, json={"model": "photo"}), order(http, loras=asked))
    assert [code(one) for one in refused] == [(400, "unsupported_parameter")] * 2


def test_a_lora_that_is_kept_for_a_tenant_is_not_there_for_others(
    client: openai.OpenAI, http: httpx.Client, shared: Stage
) -> None:
    can = replace(capabilities("paced", {}), loras=("ink", "oil"), loras_max=2)
    kept = replace(anime(), capabilities=asdict(can), lora_tenants={"oil": ["local"]})
    shared.ledger.announce(kept, ready=True)
    wait_until(lambda: "anime" in listed(client), "it is known")
    poor = {"authorization": "Bearer sk-poor"}
    for headers, loras in (({}, ["ink", "oil"]), (poor, ["ink"])):
        one = http.get("/v1/models/anime", headers=headers).json()
        assert one in http.get("/v1/models", headers=headers).json()["data"]
        assert (one["capabilities"]["loras"], one["capabilities"]["loras_max"]) == (
            loras, len(loras),
        )  # fmt: skip
    asked = {"model": "anime", "loras": [{"name": "oil"}]}
    assert order(http, **asked).status_code == 202
    refused = order(http, "sk-poor", **asked)
    unknown = order(http, "sk-poor", **{**asked, "loras": [{"name": "tar"}]})
    assert code(refused) == code(unknown) == (400, "invalid_value")
    assert "there is no 'oil'; this model has 'ink'." in refused.json()["error"]["message"]
    assert "'oil'" not in unknown.json()["error"]["message"]
    assert "oil" not in http.get("/openapi.json").text


def test_a_gateway_alone_serves_what_is_announced(tmp_path: Path) -> None:
    with (
        stage(tmp_path, config(), alone=True) as shared,
        httpx.Client(base_url=shared.url, headers=shared.headers, timeout=60) as http,
    ):
        assert http.get("/v1/models").json()["data"] == []
        assert http.get("/openapi.json").status_code == 200
        early = order(http)
        assert (code(early), early.headers["retry-after"]) == ((503, "no_model"), "1")
        assert code(http.post("/v1/images/edits", json={"prompt": "a", "images": []}))[0] == 400
        shared.ledger.announce(anime(), ready=True)
        wait_until(lambda: order(http).status_code == 202, "it is known")
        assert where(newest(shared)) == ("anime", "default/anime"), "the only one is the first"
        shared.ledger.announce(replace(anime(), name="photo", queue="default"), ready=True)
        wait_until(lambda: len(http.get("/v1/models").json()["data"]) == 2, "both are known")
        assert order(http).status_code == 202
        assert where(newest(shared)) == ("photo", "default"), "the lane's own queue is first"


def test_a_gateway_starts_although_files_of_a_model_have_gone_away(tmp_path: Path) -> None:
    gone = {"name": "photo", "family": "diffusers", "options": {"weights": f"{tmp_path}/gone"}}
    settings = config(model={}, models=[gone, SKETCH])
    with (
        pytest.raises(ConfigError, match=r"model photo: .*/gone/model_index.json: cannot be read"),
        stage(tmp_path / "new", settings),
    ):
        pytest.fail("nothing is known of it")
    database = f"sqlite:///{tmp_path}/known.db"
    before = replace(anime(), name="photo", queue="default", family="diffusers")
    with closing(SqlLedger(database)) as ledger:
        ledger.announce(before, ready=False)
    with (
        stage(tmp_path / "again", settings, database) as shared,
        httpx.Client(base_url=shared.url, headers=shared.headers, timeout=60) as http,
    ):
        shared.worker.pause()
        assert order(http).status_code == 202, "its jobs wait"
        assert where(newest(shared)) == ("photo", "default")
        adopt(shared.app, settings)
        found = {one["id"]: one["available"] for one in http.get("/v1/models").json()["data"]}
        assert found == {"photo": False, "sketch": False}
