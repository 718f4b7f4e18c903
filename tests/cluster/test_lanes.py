"""Two lanes on the real cluster, on one and the same ledger: neither runs the other's jobs, and
what happens to one does not touch the other."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.conftest import Running, wait_until
from tests.cluster.test_cluster import draw_all, headers

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def api_lane(cluster: Running) -> Iterator[str]:
    """A second lane beside the cluster's own; its base URL."""
    before = yaml.safe_load(cluster.config.read_text())
    deploy = f"{cluster.dashboard}/api/serve/applications/"
    assert httpx.put(deploy, json=with_second_lane(before), timeout=60).is_success

    def status() -> str:
        found = httpx.get(deploy, timeout=30).json()["applications"]
        return str(found.get("api", {}).get("status"))

    wait_until(lambda: status() == "RUNNING", 120, "the second lane is up")
    yield f"{cluster.api}/api"
    httpx.put(deploy, json=before, timeout=60)
    wait_until(lambda: status() == "None", 60, "the second lane is gone")


def with_second_lane(config: dict[str, Any]) -> dict[str, Any]:
    first = config["applications"][0]
    second = copy.deepcopy(first)
    second.update(name="api", route_prefix="/api")
    second["args"].update(lane="api")
    second["args"]["decoder"].update(replicas=1, num_cpus=0.1)
    return {**config, "applications": [first, second]}


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def submit(api: str) -> str:
    """A job; its URL."""
    answer = httpx.post(
        f"{api}/v1/images/generations",
        headers={**headers(), "prefer": "respond-async"},
        json={"prompt": "a red fox", "quality": "low"},
        timeout=60,
    )
    return f"{api}/v1/jobs/{answer.json()['id']}"


def state(job: str) -> str:
    return str(httpx.get(job, headers=headers(), timeout=30).json()["state"])


def test_a_lane_never_draws_the_jobs_of_another(cluster: Running, api_lane: str) -> None:
    with paused(cluster.pids("ServeReplica:api:Decoder")):
        waiting = submit(api_lane)
        asyncio.run(draw_all(cluster.api, range(4)))  # the other lane has slots to spare
        assert state(waiting) in ("queued", "leased", "running")
    wait_until(lambda: state(waiting) == "succeeded", 60, "the lane's own decoder draws it")


def test_a_killed_dispatcher_leaves_the_other_lane_alone(cluster: Running, api_lane: str) -> None:
    of_api = sorted(cluster.pids("ServeReplica:api:"))

    def kill() -> None:
        os.kill(cluster.pids("ServeReplica:meltproof:Dispatcher")[0], signal.SIGKILL)

    waiting = submit(cluster.api)
    assert len(asyncio.run(draw_all(api_lane, range(4), 0.2, kill))) == 4
    assert sorted(cluster.pids("ServeReplica:api:")) == of_api
    wait_until(lambda: state(waiting) == "succeeded", 60, "the killed lane goes on by itself")
