"""What operators see of a lane, now and over time, over HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import httpx
import pytest

from autoscaling.capacity import ClusterNode, NodeCapacity
from jobs.history import LoadSample, ScalingChange
from jobs.limit_levels import LimitLevel
from serve_app.orders import cluster
from serve_app.orders.cluster import ClusterLook
from tests.stages.http_stage import Stage, config, stage
from tests.stages.ledger_kit import wait_until

OVERVIEW, HISTORY = "/v1/operator/overview", "/v1/operator/history"
OPERATOR = {"authorization": "Bearer sk-ops"}
NODES = (
    ClusterNode("b", "10.0.0.2", True, False, NodeCapacity(8, 1), {"lane/Decoder": 2}, True, 9.5),
    ClusterNode("a", "10.0.0.1", True, True, NodeCapacity(2, 0), {}),
    ClusterNode("c", "10.0.0.3", False, False, NodeCapacity(8, 1), {}),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    settings = config(
        keys=[
            {"key": "sk-local", "tenant": "local"},
            {"key": "sk-ops", "tenant": "ops", "role": "operator"},
        ],
        tiers={"free": {"images_per_day": 10}, "pro": {"weight": 4}},
        temporary_limits=[
            {"above_seconds": 60, "below_seconds": 30, "tiers": {"free": {"images_per_day": 1}}}
        ],
    )
    with stage(tmp_path_factory.mktemp("overview"), settings) as made:
        made.worker.pause()
        yield made


def asked(shared: Stage, path: str, **query: str) -> httpx.Response:
    return httpx.get(f"{shared.url}{path}", params=query, headers=OPERATOR)


def sample(at: float, waiting_seconds: float, running: int | None) -> LoadSample:
    return LoadSample(at, {"free": 3}, waiting_seconds, 2.0, 0.5, 1.0, 9.0, running, 1)


@pytest.mark.parametrize("path", [OVERVIEW, HISTORY])
def test_only_operators_see_it(shared: Stage, path: str) -> None:
    assert httpx.get(f"{shared.url}{path}").status_code == 401
    refused = httpx.get(f"{shared.url}{path}", headers=shared.headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "operator_required")
    assert asked(shared, path).status_code == 200


def test_the_lane_as_it_is_now(shared: Stage) -> None:
    order = {"prompt": "a red fox", "quality": "low"}
    asks = {**shared.headers, "Prefer": "respond-async"}
    httpx.post(f"{shared.url}/v1/images/generations", json=order, headers=asks)
    shared.ledger.keep_sample("default", sample(time.time(), 1.0, 2))
    before, now = shared.ledger.limit_level("default")
    level = LimitLevel(1, now, "61 s of work were ahead", 61.0, now, now)
    assert shared.ledger.move_limits("default", before, level)

    def seen() -> bool:
        (model,) = asked(shared, OVERVIEW).json()["models"]
        return model["limits"]["tiers"]["free"]["now"] and model["heat"]["waiting"]

    wait_until(seen, "gateways follow the level, and read the heat once a second")
    body = asked(shared, OVERVIEW).json()
    (model,) = body["models"]
    assert (body["lane"], body["nodes"], model["queue"]) == ("default", None, "default")
    assert model["heat"]["waiting"]["free"]["jobs"] == 1
    assert model["decoders"]["running"] == 2
    assert model["decoders"]["starting"] == 1
    assert model["decoders"]["slots"] == shared.config.decoder.slots
    assert model["seen_at"] is None, "no dispatcher announces it here"
    limits = model["limits"]
    assert (limits["level"], limits["reason"]) == (1, "61 s of work were ahead")
    assert limits["tiers"]["free"]["usual"]["images_per_day"] == 10
    assert limits["tiers"]["free"]["now"]["images_per_day"] == 1
    assert limits["tiers"]["pro"] == {
        "weight": 4, "now": None,
        "usual": {"images_per_day": None, "queued_jobs": None, "concurrent_renders": None,
                  "newcomers_percent": 100},
    }  # fmt: skip
    assert body["thresholds"] == [{"above_seconds": 60, "below_seconds": 30, "hold_seconds": 10}]


def test_the_lane_over_time(shared: Stage) -> None:
    now = time.time()
    for ago, work in ((4000.0, 7.0), (600.0, 5.0), (90.0, 6.0)):
        shared.ledger.keep_sample("default", sample(now - ago, work, None))
    shared.ledger.log_scaling("default", [(60.0, ScalingChange(0.0, 1, 3, "<b>12 s</b>"))])
    body = asked(shared, HISTORY, window="15m").json()
    (model,) = body["models"]
    assert body["window_seconds"] == 900
    assert body["read_at"] == pytest.approx(now, abs=60)
    assert [one["waiting_seconds"] for one in model["samples"]][:2] == [5.0, 6.0]
    assert model["samples"][0]["waiting_jobs"] == {"free": 3}
    assert [(one["from_replicas"], one["to_replicas"]) for one in model["scaling"]] == [(1, 3)]
    assert model["scaling"][0]["reason"] == "<b>12 s</b>"
    (day,) = asked(shared, HISTORY, window="24h").json()["models"]
    assert day["samples"][0]["waiting_seconds"] == 7.0
    assert asked(shared, HISTORY, model="test-model").json()["models"][0]["name"] == "test-model"


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [({"window": "1y"}, 400, "window"), ({"window": ""}, 400, "window"),
     ({"model": "unknown"}, 404, "model")],
)  # fmt: skip
def test_what_cannot_be_shown_is_named(
    shared: Stage, query: dict[str, str], status: int, param: str
) -> None:
    refused = asked(shared, HISTORY, **query)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)


def test_nodes_are_shown_as_the_cluster_knows_them(shared: Stage) -> None:
    state = shared.app.state.app_state
    shared.app.state.app_state = replace(state, cluster=ClusterLook(lambda: NODES))
    try:
        nodes = asked(shared, OVERVIEW).json()["nodes"]
    finally:
        shared.app.state.app_state = state
    assert [(one["id"], one["head"], one["alive"]) for one in nodes] == [
        ("a", True, True), ("b", False, True), ("c", False, False),
    ]  # fmt: skip
    assert [(one["draining"], one["gone_at"]) for one in nodes[:2]] == [(False, None), (True, 9.5)]
    assert (nodes[1]["num_gpus"], nodes[1]["replicas"]) == (1, {"lane/Decoder": 2})


async def test_a_cluster_that_hangs_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "WAIT_SECONDS", 0.01)
    answers, asked = threading.Event(), []

    def hang() -> Sequence[ClusterNode]:
        asked.append(1)
        answers.wait(60)
        return NODES

    look = ClusterLook(hang)
    assert await asyncio.gather(look.now(), look.now()) == [None, None]
    assert await look.now() is None
    answers.set()
    monkeypatch.setattr(cluster, "WAIT_SECONDS", 60)
    assert await look.now() == NODES
    assert await look.now() == NODES
    assert asked == [1]


async def test_nodes_are_unknown_without_a_cluster_or_an_answer() -> None:
    def broken() -> Sequence[ClusterNode]:
        raise RuntimeError("the head is away")

    assert await ClusterLook(None).now() is None
    assert await ClusterLook(broken).now() is None


def test_replicas_are_counted_where_serve_says_they_are() -> None:
    from deployments.nodes import placed_replicas

    found = [{"node_id": "a"}, {"node_id": "a"}, {"node_id": "b"}, {"node_id": None}]
    applications = {"lane": {"deployments": {"Decoder": {"replicas": found}}}}
    assert placed_replicas(applications) == {"a": {"lane/Decoder": 2}, "b": {"lane/Decoder": 1}}
