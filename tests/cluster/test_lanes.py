"""Two lanes on the real cluster, on one and the same ledger: neither runs the other's jobs, and
what happens to one does not touch the other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
import yaml

from serve_app.operate.serve_api import ServeApi
from tests.cluster.conftest import Running, beside, own_application, paused, wait_until
from tests.cluster.test_cluster import draw_all, headers, submit
from tests.proxies.nginx import nginx

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("at_rest")]


def second_lane(cluster: Running) -> dict[str, Any]:
    """Of the cluster's own kind, with local stages."""
    second = own_application(cluster)
    second.update(name="api", route_prefix="/api")
    second["args"].update(lane="api", encoder={"local": True})
    second["args"]["safety"] = {**second["args"].get("safety", {}), "local": True}
    second["args"]["decoder"].update(replicas=1, num_cpus=0.1)
    return second


@pytest.fixture(scope="module")
def api_lane(cluster: Running) -> Iterator[str]:
    """A second lane beside the cluster's own; its base URL."""
    with beside(cluster, second_lane(cluster)):
        yield f"{cluster.api}/api"


def submitted(api: str) -> str:
    """A job; its URL."""
    return f"{api}/v1/jobs/{submit(api, quality='low')}"


def state(job: str) -> str:
    return str(httpx.get(job, headers=headers(), timeout=60).json()["state"])


def test_a_lane_never_draws_the_jobs_of_another(cluster: Running, api_lane: str) -> None:
    with paused(cluster.pids("ServeReplica:api:Decoder")):
        waiting = submitted(api_lane)
        asyncio.run(draw_all(cluster.api, range(4)))  # the other lane has slots to spare
        assert state(waiting) in ("queued", "leased", "running")
    wait_until(lambda: state(waiting) == "succeeded", "the lane's own decoder draws it")


def test_a_host_name_is_a_lane(cluster: Running, api_lane: str) -> None:
    """As examples/nginx.conf maps them."""
    with nginx([cluster.api.removeprefix("http://")], 60) as url:

        def lane_of(host: str) -> str:
            answer = httpx.get(f"{url}/v1/status", headers={**headers(), "host": host}, timeout=60)
            return str(answer.json()["lane"])

        assert lane_of("api.example.com") == "api"
        assert lane_of("elsewhere.example.com") != "api"


def test_a_killed_dispatcher_leaves_the_other_lane_alone(cluster: Running, api_lane: str) -> None:
    of_api = sorted(cluster.pids("ServeReplica:api:"))

    def kill() -> None:
        os.kill(cluster.pids("ServeReplica:meltproof:Dispatcher")[0], signal.SIGKILL)

    waiting = submitted(cluster.api)
    assert len(asyncio.run(draw_all(api_lane, range(4), 0.2, kill))) == 4
    assert sorted(cluster.pids("ServeReplica:api:")) == of_api
    wait_until(lambda: state(waiting) == "succeeded", "the killed lane goes on by itself")


def test_local_stages_are_children_of_their_dispatcher(cluster: Running, api_lane: str) -> None:
    """There are no replicas of them, one that is killed is started again, and an edited policy is
    live there."""
    for kind in ("PromptEncoder", "SafetyClassifier"):
        assert cluster.pids(f"ServeReplica:meltproof:{kind}")
        assert not cluster.pids(f"ServeReplica:api:{kind}")
    (dispatcher,) = cluster.pids("ServeReplica:api:Dispatcher")
    children = psutil.Process(dispatcher).children()
    assert len(children) == 3, "pixels, encoder, classifier"
    for child in children:
        child.kill()
    assert len(asyncio.run(draw_all(api_lane, range(2)))) == 2
    second = second_lane(cluster)
    refuse = {"rules": [{"stages": ["final"], "actions": {"block": 0}}]}
    second["deployments"] = [{"name": "Dispatcher", "user_config": {"moderation": refuse}}]
    edited = yaml.safe_load(cluster.config.read_text())
    edited["applications"].append(second)
    ServeApi(cluster.dashboard).put(edited)
    wait_until(lambda: ended(api_lane) == "blocked", "the new policy holds")
    del second["deployments"]
    ServeApi(cluster.dashboard).put(edited)
    wait_until(lambda: ended(api_lane) == "succeeded", "that of the start holds again")
    assert cluster.pids("ServeReplica:api:Dispatcher") == [dispatcher]


def ended(api: str) -> str:
    """What becomes of one job more."""
    job = submitted(api)
    wait_until(lambda: state(job) not in ("queued", "leased", "running", "finishing"), "it ends")
    return state(job)
