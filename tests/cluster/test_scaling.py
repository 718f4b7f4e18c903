"""Decoders of one lane come and go on the real cluster: with the work, with an edited number, past
a killed controller, and while replicas fail to start. Nothing is lost and nothing drawn twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from jobs.job import HELD, JobState
from scripts.autoscaling.lane import LiveLane
from tests.cluster.conftest import Running, beside, own_application, wait_until

pytestmark = pytest.mark.cluster

MOST = 4
PATIENT = {"wait_seconds": 1000.0, "scale_down_seconds": 0.0}
HASTY = {"wait_seconds": 5.0, "late_seconds": 5.0, "scale_down_seconds": 0.0}
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

    def order(self, jobs: int) -> None:
        asyncio.run(self.submit([0.0] * jobs))

    def all_done(self) -> bool:
        return all(job.ended for job in self.jobs())

    def undisturbed(self) -> bool:
        """Every job came to its pictures, and no decoder or dispatcher failed one."""
        jobs = self.jobs()
        attempts = sum(job.attempts + sum(r.attempts for r in job.renders) for job in jobs)
        return attempts == 0 and all(job.state is JobState.SUCCEEDED for job in jobs)

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
    args["decoder"] = {"slots": 4, "num_cpus": 0.02}
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
    lane.order(120)
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
    lane.order(80)
    wait_until(lambda: lane.decoders().running > 1, 60, "more decoders")
    lane.edit(PATIENT)  # now there is all the time in the world
    wait_until(lambda: lane.decoders().target == 1, 60, "the others are to leave")
    assert not lane.all_done()
    wait_until(lambda: lane.decoders().running == 1, 60, "they have left")
    wait_until(lane.all_done, 90, "all is drawn")
    assert lane.undisturbed()
