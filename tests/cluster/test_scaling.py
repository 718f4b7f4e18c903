"""Decoders of one lane come and go on the real cluster: with the work, with an edited number, past
a killed controller, and while replicas fail to start. Nothing is lost and nothing drawn twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from deployments.local import alive
from deployments.serve_api import ClusterFailed
from jobs.job import HELD, JobState
from jobs.sql_ledger import SqlLedger
from scripts.autoscaling.lane import LiveLane
from tests.cluster.conftest import Running, beside, own_application, wait_until

pytestmark = pytest.mark.cluster

MOST = 4
HASTY = {
    "wait_seconds": 3.0,
    "late_seconds": 4.0,
    "idle_cold_starts": 0.2,
    "scale_down_seconds": 0.0,
}
PATIENT = {**HASTY, "wait_seconds": 1000.0}
LEASE_SECONDS = 60.0  # so long that what comes back sooner was given back


@dataclass(frozen=True)
class ScaledLane(LiveLane):
    """The lane with what a test turns on it. second: its part of the config file."""

    cluster: Running | None = None
    second: dict[str, Any] = field(default_factory=dict)

    def edit(self, scaling: dict[str, Any], dispatchers: int = 1) -> None:
        """Deploy the file with other numbers."""
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

    def order(self, jobs: int, quality: str = "medium") -> None:
        asyncio.run(self.submit([0.0] * jobs, quality))

    def passes(self) -> dict[str, int]:
        """How far the images are that somebody has begun, as the ledger knows."""
        jobs = [job for job in self.jobs() if not job.ended]
        return {job.id: job.renders[0].pass_no for job in jobs if job.renders[0].pass_no}

    def cancel(self) -> None:
        """Everything that has not ended."""
        with closing(SqlLedger(self.dsn)) as ledger:
            for job in self.jobs():
                ledger.cancel(job.id)

    def all_done(self) -> bool:
        return all(job.ended for job in self.jobs())

    def undisturbed(self) -> bool:
        """Every job that was not cancelled has its picture, and nobody failed one."""
        jobs = self.jobs()
        attempts = sum(job.attempts + sum(r.attempts for r in job.renders) for job in jobs)
        good = (JobState.SUCCEEDED, JobState.CANCELLED)
        return attempts == 0 and all(job.state in good for job in jobs)

    def said(self, what: str) -> bool:
        """Whether some controller of the cluster logged that of this lane."""
        logs = self.running.ray_folder.glob("session_latest/logs/serve/controller_[0-9]*.log")
        lines = (line for log in logs for line in log.read_text().splitlines())
        return any("scaling scaled/Decoder" in line and what in line for line in lines)

    def held_by(self, pid: int) -> int:
        """Jobs under a lease of that process."""
        return sum(
            job.state in HELD for job in self.jobs() if (job.worker or "").startswith(f"{pid}-")
        )


@pytest.fixture(scope="module")
def lane(cluster: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaledLane]:
    folder = tmp_path_factory.mktemp("scaled")
    second = own_application(cluster)
    second.update(name="scaled", route_prefix="/scaled")
    args = second["args"]
    args["model"].update(options={"pass_ms": 60, "per_row_ms": 15}, pass_seconds=0.03)
    args["decoder"] = {"slots": 4, "num_cpus": 0.02, "grace_seconds": 0.5}
    args["qualities"] = {"max": 250}
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


def test_an_edited_number_brings_decoders_and_touches_nobody(lane: ScaledLane) -> None:
    pids = {name: lane.pids(name) for name in ("Gateway", "Dispatcher", "Decoder")}
    lane.order(80)
    assert lane.decoders().target == 1  # they may wait for a thousand seconds
    lane.edit(HASTY)
    wait_until(lambda: lane.decoders().running == MOST, 60, "as many decoders as there may be")
    for name, before in pids.items():
        assert set(before) <= set(lane.pids(name)), name
    wait_until(lane.all_done, 60, "all is drawn")
    assert lane.undisturbed()
    assert lane.pids("Gateway") == pids["Gateway"]


def test_idle_decoders_leave(lane: ScaledLane) -> None:
    wait_until(lambda: lane.decoders().running == 1, 60, "one is left")
    assert lane.decoders().target == 1


def test_decoders_that_leave_in_the_middle_lose_nothing(lane: ScaledLane) -> None:
    lane.order(8, "max")  # half a minute each: none of them can be done within the grace
    wait_until(lambda: lane.decoders().running == MOST, 60, "all decoders")
    wait_until(lambda: len(lane.passes()) == 8, 60, "all are drawn at once")
    drawn = lane.passes()
    lane.edit(PATIENT)  # now there is all the time in the world
    wait_until(lambda: len(lane.pids("Decoder")) == 1, 60, "the others have left")
    assert lane.passes().keys() == drawn.keys()
    assert all(lane.passes()[job] >= passes for job, passes in drawn.items())
    drawn = lane.passes()
    wait_until(
        lambda: sum(lane.passes()[job] > passes for job, passes in drawn.items()) >= 4,
        60,
        "the one that is left draws on",
    )
    assert all(lane.passes()[job] >= passes for job, passes in drawn.items())
    lane.cancel()
    wait_until(lane.all_done, 60, "the rest is cancelled")
    assert lane.undisturbed()


def test_a_dispatcher_that_leaves_gives_everything_back(lane: ScaledLane) -> None:
    lane.edit(HASTY, dispatchers=2)
    wait_until(lambda: len(lane.pids("Dispatcher")) == 2, 60, "a second dispatcher")
    lane.order(40)
    wait_until(lambda: all(lane.held_by(pid) for pid in lane.pids("Dispatcher")), 60, "both work")
    both = lane.pids("Dispatcher")
    lane.edit(HASTY, dispatchers=1)
    wait_until(lambda: len(lane.pids("Dispatcher")) == 1, 60, "one has left")
    gone = (set(both) - set(lane.pids("Dispatcher"))).pop()
    assert lane.held_by(gone) == 0
    wait_until(lane.all_done, 60, "the other one draws it all")
    assert lane.undisturbed()


def test_a_new_controller_goes_on_from_the_target(lane: ScaledLane) -> None:
    lane.order(200)
    wait_until(lambda: lane.decoders().running == MOST, 60, "all decoders")
    decoders = set(lane.pids("Decoder"))
    old = lane.running.pids("ServeController")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in old), 30, "it is dead")

    def answers() -> bool:
        with suppress(ClusterFailed, KeyError):
            return lane.decoders().target >= 1
        return False

    wait_until(answers, 60, "a new controller")
    assert lane.decoders().target == MOST
    assert decoders <= set(lane.pids("Decoder"))
    lane.cancel()
    wait_until(lane.all_done, 90, "the rest is cancelled")
    assert lane.undisturbed()
    wait_until(lambda: lane.decoders().running == 1, 60, "the new one scales down")


def test_replicas_that_fail_to_start_are_not_piled_up(lane: ScaledLane) -> None:
    old = set(lane.pids("Decoder"))
    lane.order(400)  # more than one decoder draws before the policy gives the others up

    def killed() -> bool:
        for pid in set(lane.pids("Decoder")) - old:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return lane.said("do not come")

    wait_until(killed, 120, "the policy says that they do not come")
    assert lane.decoders().target <= MOST
    drawn = sum(job.state is JobState.SUCCEEDED for job in lane.jobs())
    wait_until(
        lambda: sum(job.state is JobState.SUCCEEDED for job in lane.jobs()) > drawn,
        60,
        "those that run draw on",
    )
    lane.cancel()
    wait_until(lane.all_done, 90, "the rest is cancelled")
    assert lane.undisturbed()
