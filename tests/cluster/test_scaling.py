"""Decoders of one lane come and go on the real cluster: with the work, with an edited number, past
a killed controller, and while replicas fail to start. Nothing is lost and nothing drawn twice."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import yaml

from jobs.job import HELD, JobState
from jobs.sql.sql_ledger import SqlLedger
from scripts.autoscaling.lane import LiveLane
from serve_app.operate.local_cluster import alive
from serve_app.operate.serve_api import ClusterFailed
from tests.cluster.conftest import (
    MOST_PASSES,
    Running,
    beside,
    controller_lines,
    own_application,
    paused,
    wait_until,
)

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("at_rest")]

MOST = 4
HASTY = {
    "wait_seconds": 3.0,
    "late_seconds": 4.0,
    "idle_cold_starts": 0.2,
    "scale_down_seconds": 0.0,
    "smoothing_seconds": 2.0,
}
PATIENT = {**HASTY, "wait_seconds": 1000.0, "smoothing_seconds": 30.0}
MINUTES = "max"
"""The quality of a render that goes on for more than one, unless it is cancelled."""
LEASE_SECONDS = 60.0  # so long that what comes back sooner was given back


@dataclass(frozen=True)
class ScaledLane(LiveLane):
    """The lane with what a test turns on it. second: its part of the config file."""

    cluster: Running | None = None
    second: dict[str, Any] = field(default_factory=dict)

    def edit(self, scaling: dict[str, Any], dispatchers: int = 1, most: int = MOST) -> None:
        """Deploy the file with other numbers. most: decoders."""
        self.second["deployments"][0]["autoscaling_config"]["max_replicas"] = most
        self.second["deployments"][1:] = [
            {"name": "Gateway", "user_config": {"scaling": scaling}},
            {"name": "Dispatcher", "num_replicas": dispatchers},
        ]
        before = yaml.safe_load(self.running.config.read_text())
        self.serve.put({**before, "applications": [*before["applications"], self.second]})

    @property
    def running(self) -> Running:
        assert self.cluster is not None
        return self.cluster

    def pids(self, deployment: str) -> list[int]:
        return self.running.pids(f"ServeReplica:scaled:{deployment}")

    def running_of(self, deployment: str) -> int:
        """Its replicas that are up."""
        replicas = self.deployment(deployment)["replicas"]
        return sum(replica["state"] == "RUNNING" for replica in replicas)

    def order(self, jobs: int, quality: str = "medium") -> None:
        asyncio.run(self.submit([0.0] * jobs, quality))

    def passes(self) -> dict[str, int]:
        """How far the images are that somebody has begun, as the ledger knows."""
        jobs = [job for job in self.jobs() if not job.ended]
        return {job.id: job.renders[0].pass_no for job in jobs if job.renders[0].pass_no}

    def cancel(self, all_but: int = 0, only: Collection[str] | None = None) -> None:
        """What has not ended; with `all_but`, what was not begun, except for so many; with
        `only`, those jobs."""
        jobs = [job for job in self.jobs() if not job.ended]
        jobs = [job for job in jobs if only is None or job.id in only]
        if all_but:
            jobs = [job for job in jobs if job.state is JobState.QUEUED][:-all_but]
        with closing(SqlLedger(self.dsn)) as ledger:
            for job in jobs:
                ledger.cancel(job.id)

    def all_done(self) -> bool:
        return all(job.ended for job in self.jobs())

    def undisturbed(self) -> bool:
        """Every job that was not cancelled has its picture, and nobody failed one."""
        jobs = self.jobs()
        attempts = sum(job.attempts + sum(r.attempts for r in job.renders) for job in jobs)
        good = (JobState.SUCCEEDED, JobState.CANCELLED)
        return attempts == 0 and all(job.state in good for job in jobs)

    def said(self, what: str) -> int:
        """How often controllers of the cluster logged that of this lane."""
        lines = controller_lines(self.running.ray_folder)
        return sum("scaling scaled/Decoder" in line and what in line for line in lines)

    def held_by(self, pid: int) -> int:
        """Jobs under a lease of that process."""
        return sum(
            job.state in HELD for job in self.jobs() if (job.worker or "").startswith(f"{pid}-")
        )


@pytest.fixture(scope="module")
def scaled(cluster: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledLane]:
    folder = tmp_path_factory.mktemp("scaled")
    second = own_application(cluster)
    second.update(name="scaled", route_prefix="/scaled")
    args = second["args"]
    args["model"].update(options={"pass_ms": 200, "per_row_ms": 50}, pass_seconds=0.1)
    args["decoder"] = {"slots": 4, "num_cpus": 0.02, "grace_seconds": 0.5}
    args["qualities"] = {"medium": 4, MINUTES: MOST_PASSES}
    args["keys"] = [*args["keys"], {"key": "sk-ops", "tenant": "ops", "role": "operator"}]
    args["ledger"] = {"dsn": f"sqlite:///{folder}/ledger.db"}
    args["blobs"] = {"directory": f"{folder}/blobs"}
    args.update(lane="scaled", scaling=PATIENT, dispatcher={"lease_seconds": LEASE_SECONDS})
    scaling = {
        "min_replicas": 1,
        "max_replicas": MOST,
        "upscale_delay_s": 0,
        "downscale_delay_s": 0,
        "policy": {"policy_function": "autoscaling.ray_policy:DecoderPolicy"},
    }
    second["deployments"] = [{"name": "Decoder", "autoscaling_config": scaling}]
    with beside(cluster, second) as serve:
        yield ScaledLane(
            serve,
            "scaled",
            f"{cluster.api}/scaled",
            args["ledger"]["dsn"],
            cluster=cluster,
            second=second,
        )


@pytest.fixture
def lane(scaled: ScaledLane) -> Iterator[ScaledLane]:
    """The lane; a test that failed leaves no work to the next one."""
    yield scaled
    scaled.cancel()
    wait_until(scaled.all_done, "the rest is cancelled")


def test_an_edited_number_brings_decoders_and_touches_nobody(lane: ScaledLane) -> None:
    pids = {name: lane.pids(name) for name in ("Gateway", "Dispatcher", "Decoder")}
    lane.order(400)  # one decoder would draw for minutes
    assert lane.decoders().target == 1  # they may wait for a thousand seconds
    lane.edit(HASTY)
    wait_until(lambda: lane.decoders().running == MOST, "as many decoders as there may be")
    for name, before in pids.items():
        assert set(before) <= set(lane.pids(name)), name
    lane.cancel(all_but=20)
    wait_until(lane.all_done, "all is drawn")
    assert lane.undisturbed()
    assert lane.pids("Gateway") == pids["Gateway"]


def test_idle_decoders_leave(lane: ScaledLane) -> None:
    wait_until(lambda: lane.decoders().running == 1, "one is left")
    assert lane.decoders().target == 1


def test_operators_see_where_decoders_are_and_why_they_came_and_went(lane: ScaledLane) -> None:
    def asked(what: str) -> dict[str, Any]:
        headers = {"authorization": "Bearer sk-ops"}
        found = httpx.get(f"{lane.api}/v1/operator/{what}", headers=headers, timeout=60)
        body: dict[str, Any] = found.raise_for_status().json()
        return body

    (node,) = asked("overview")["nodes"]
    assert (node["alive"], node["head"], node["draining"]) == (True, True, False)
    assert node["replicas"]["scaled/Gateway"] == node["replicas"]["scaled/Decoder"] == 1
    (model,) = asked("history?window=1h")["models"]
    changes = [one["to_replicas"] - one["from_replicas"] for one in model["scaling"]]
    assert min(changes) < 0 < max(changes)
    assert all(one["reason"] for one in model["scaling"])
    assert any(one["running"] for one in model["samples"])


def test_the_controller_counts_decisions_by_their_causes(lane: ScaledLane) -> None:
    port = lane.second["args"]["metrics"]["port"]
    decided = r'scaling_decisions_total\{application="scaled",cause="(\w+)",deployment="Decoder"'

    def counted() -> bool:
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60, trust_env=False).text
        return len(re.findall(decided, page)) > 1 and 'processes{part="controller"} 1.0' in page

    wait_until(counted, "decisions up and down are on the page of the node")


def test_decoders_that_leave_in_the_middle_lose_nothing(lane: ScaledLane) -> None:
    lane.edit(HASTY)
    lane.order(8, MINUTES)
    wait_until(lambda: lane.decoders().running == MOST, "all decoders")
    wait_until(lambda: len(lane.passes()) == 8, "all are drawn at once")
    drawn = lane.passes()
    lane.edit(HASTY, most=1)
    wait_until(lambda: len(lane.pids("Decoder")) == 1, "the others have left")
    assert lane.passes().keys() == drawn.keys()
    assert all(lane.passes()[job] >= passes for job, passes in drawn.items())
    drawn = lane.passes()
    wait_until(
        lambda: sum(lane.passes()[job] > passes for job, passes in drawn.items()) >= 4,
        "the one that is left draws on",
    )
    assert all(lane.passes()[job] >= passes for job, passes in drawn.items())
    lane.cancel()
    wait_until(lane.all_done, "the rest is cancelled")
    assert lane.undisturbed()


def test_a_decoder_that_stands_still_keeps_no_render(lane: ScaledLane) -> None:
    """As behind a network that is cut: long before its calls time out, or Ray notices."""
    lane.edit(HASTY)
    lane.order(16, MINUTES)
    wait_until(lambda: len(lane.passes()) == 16, "four decoders draw four each")
    with paused(lane.pids("Decoder")[:1]):
        going_on: set[str] = set()

        def twelve_go_on() -> bool:
            """What the other one had sent may still be arriving."""
            drawn = lane.passes()
            time.sleep(1.0)
            going_on.clear()
            going_on.update(job for job, passes in lane.passes().items() if passes > drawn[job])
            return len(going_on) == 12

        wait_until(twelve_go_on, "twelve go on")
        drawn = lane.passes()
        lane.cancel(only=set(sorted(going_on)[:4]))  # there is room for the others
        stuck = drawn.keys() - going_on
        began = time.monotonic()
        wait_until(
            lambda: all(lane.passes()[job] > drawn[job] for job in stuck), "all go on elsewhere"
        )
        print(f"going on after {time.monotonic() - began:.1f} s")
    lane.cancel()
    wait_until(lane.all_done, "the rest is cancelled")
    assert lane.undisturbed()


def test_a_dispatcher_that_leaves_gives_everything_back(lane: ScaledLane) -> None:
    lane.edit(HASTY, dispatchers=2)
    wait_until(lambda: lane.running_of("Dispatcher") == 2, "a second dispatcher")
    lane.order(400)
    wait_until(lambda: all(lane.held_by(pid) for pid in lane.pids("Dispatcher")), "both work")
    both = lane.pids("Dispatcher")
    lane.edit(HASTY, dispatchers=1)
    wait_until(lambda: len(lane.pids("Dispatcher")) == 1, "one has left")
    gone = (set(both) - set(lane.pids("Dispatcher"))).pop()
    assert lane.held_by(gone) == 0
    lane.cancel(all_but=20)
    wait_until(lane.all_done, "the other one draws it all")
    assert lane.undisturbed()


def test_a_new_controller_goes_on_from_the_target(lane: ScaledLane) -> None:
    lane.edit(HASTY)
    lane.order(16, MINUTES)
    # Those of the last test may run still and be about to leave, so that they run says little.
    wait_until(lambda: len(lane.passes()) == 16, "four decoders draw four each")
    wait_until(lambda: lane.decoders().target == MOST, "all of them are needed")
    decoders = set(lane.pids("Decoder"))
    old = lane.running.pids("ServeController")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in old), "it is dead")

    def answers() -> bool:
        with suppress(ClusterFailed, KeyError):
            return lane.decoders().target >= 1
        return False

    wait_until(answers, "a new controller")
    assert lane.decoders().target == MOST
    assert decoders <= set(lane.pids("Decoder"))
    lane.cancel()
    wait_until(lane.all_done, "the rest is cancelled")
    assert lane.undisturbed()
    wait_until(lambda: lane.decoders().running == 1, "the new one scales down")


def test_replicas_that_fail_to_start_are_not_piled_up(lane: ScaledLane) -> None:
    lane.edit(HASTY)
    wait_until(lambda: len(lane.pids("Decoder")) == 1, "one is left")
    old, said = set(lane.pids("Decoder")), lane.said("do not come")
    lane.order(16, MINUTES)

    def killed() -> bool:
        for pid in set(lane.pids("Decoder")) - old:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return lane.said("do not come") > said

    wait_until(killed, "the policy says that they do not come")
    assert lane.decoders().target <= MOST
    drawn = lane.passes()
    wait_until(
        lambda: any(lane.passes()[job] > passes for job, passes in drawn.items()),
        "those that run draw on",
    )
    lane.cancel()
    wait_until(lane.all_done, "the rest is cancelled")
    assert lane.undisturbed()
