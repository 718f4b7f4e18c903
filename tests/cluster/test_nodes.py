"""Decoders that want a GPU each, on a cluster whose own autoscaler adds nodes and takes them away:
from none to all that there are, one that never comes, and back to none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from jobs.job import JobState
from jobs.sql.sql_ledger import SqlLedger
from scripts.autoscaling.lane import LiveLane
from serve_app.config.cluster import environment
from serve_app.config.serve_file import load_serve_config
from serve_app.operate.local_cluster import LocalCluster, free_port
from tests.cluster.conftest import MOST_PASSES, ROOT, controller_lines, wait_until
from tests.cluster.logical_nodes import logical_gpus
from tests.stages.databases import PostgresServer

pytestmark = pytest.mark.cluster

NODES, MOST = 2, 20
MINUTES = "max"
"""The quality of a render that goes on for one; there are some for each slot."""


@pytest.fixture
def cluster(postgres: PostgresServer, tmp_path: Path) -> Iterator[tuple[LocalCluster, LiveLane]]:
    """A cluster of its own; several nodes cannot share an SQLite file."""
    config = load_serve_config(ROOT / "configs/paced-autoscaling.yaml")
    config["http_options"]["port"] = free_port()
    application = config["applications"][0]
    args = application["args"]
    args["decoder"] = {"slots": 4, "num_cpus": 0.0, "num_gpus": 1.0}
    args["dispatcher"]["lease_seconds"] = 60.0  # nobody loses a job only because all stands still
    args["qualities"] = {MINUTES: MOST_PASSES}
    args["blobs"] = {"directory": f"{tmp_path}/blobs"}
    args["scaling"] = {
        "wait_seconds": 240.0,  # so a few decoders more than there are nodes are enough
        "late_seconds": 4.0,
        "scale_down_seconds": 0.0,
        "smoothing_seconds": 2.0,
    }
    application["deployments"][0]["autoscaling_config"].update(min_replicas=0, max_replicas=MOST)
    with postgres.database() as dsn:
        args["ledger"] = {"dsn": dsn}
        cluster = LocalCluster(config, environment(), dashboard_port=0, nodes=logical_gpus(NODES))
        cluster.start()
        try:
            yield cluster, LiveLane(cluster.serve, "meltproof", cluster.api_url, dsn)
        finally:
            cluster.stop()


def test_nodes_come_and_go_and_one_that_never_comes_is_waited_for(
    cluster: tuple[LocalCluster, LiveLane],
) -> None:
    ray, lane = cluster
    assert gpu_nodes(ray) == 0  # nobody has asked for anything
    asyncio.run(lane.submit([0.0] * 40, MINUTES))
    wait_until(lambda: lane.decoders().running == NODES, "every node that there is came")
    wait_until(lambda: late(ray), "the policy says what is missing")
    target = lane.decoders().target
    assert NODES < target < MOST
    asyncio.run(lane.submit([0.0] * 40, MINUTES))
    time.sleep(3.0)  # it reads the ledger a dozen times
    assert lane.decoders().target == target  # no more is asked for
    with closing(SqlLedger(lane.dsn)) as ledger:
        cancelled = {job.id for job in lane.jobs() if ledger.cancel(job.id)}
    asyncio.run(lane.submit([0.0] * 20))
    wait_until(lambda: all(job.ended for job in lane.jobs()), "two nodes draw the rest")
    jobs = [job for job in lane.jobs() if job.id not in cancelled]
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 20
    assert sum(job.attempts + sum(r.attempts for r in job.renders) for job in jobs) == 0
    wait_until(lambda: lane.decoders().running == 0, "no decoder is needed")
    wait_until(lambda: gpu_nodes(ray) == 0, "the nodes leave")


def gpu_nodes(ray: LocalCluster) -> int:
    return sum(room.num_gpus > 0 for room in ray.serve.nodes())


def late(ray: LocalCluster) -> bool:
    return any("do not come" in line for line in controller_lines(ray.temp_dir))
