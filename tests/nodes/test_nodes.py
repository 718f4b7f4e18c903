"""Decoders that want a GPU each, on a cluster whose own autoscaler adds nodes and takes them away:
from none to all that there are, one that never comes, one that is told to leave, and back to
none."""

from __future__ import annotations

import asyncio
import re
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import closing

import pytest

from jobs.job import JobState
from jobs.sql.sql_ledger import SqlLedger
from scripts.autoscaling.lane import LiveLane
from serve_app.__main__ import main
from serve_app.config.cluster import environment
from serve_app.config.serve_file import load_serve_config
from serve_app.operate.local_cluster import LocalCluster, free_port
from tests.cluster.conftest import MOST_PASSES, ROOT, controller_lines, wait_until
from tests.nodes.logical_nodes import logical_gpus
from tests.stages.databases import PostgresServer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    import serve_app.operate.commands.drain  # noqa: F401 - the command imports it
    from deployments.draining import GcsNodes

pytestmark = pytest.mark.cluster

NODES, MOST = 2, 20
MINUTES = "max"
"""The quality of a render that goes on for one; there are some for each slot."""


@pytest.fixture(scope="module")
def cluster(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalCluster, LiveLane]]:
    """A cluster of its own; several nodes cannot share an SQLite file."""
    config = load_serve_config(ROOT / "configs/paced-autoscaling.yaml")
    config["http_options"]["port"] = free_port()
    application = config["applications"][0]
    args = application["args"]
    args["decoder"] = {"slots": 4, "num_cpus": 0.0, "num_gpus": 1.0}
    args["dispatcher"]["lease_seconds"] = 60.0  # nobody loses a job only because all stands still
    args["qualities"] = {MINUTES: MOST_PASSES}
    args["blobs"] = {"directory": str(tmp_path_factory.mktemp("blobs"))}
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


def test_a_node_that_is_told_to_leave_hands_its_renders_on(
    cluster: tuple[LocalCluster, LiveLane], capsys: pytest.CaptureFixture[str]
) -> None:
    ray, lane = cluster
    asyncio.run(lane.submit([0.0] * 40, MINUTES))
    wait_until(lambda: len(passes(lane)) == 8, "two decoders draw four each")
    decoders = lane.deployment("Decoder")["replicas"]
    leaving = next(one["node_id"] for one in decoders if one["state"] == "RUNNING")
    assert drain(ray) == 0
    assert f"{leaving[:12]}  127.0.0.1  up     1 meltproof/Decoder" in " ".join(
        capsys.readouterr().out.splitlines()
    )
    before = passes(lane)
    assert drain(ray, leaving) == 0
    wait_until(lambda: handed_on(ray) == 4, "its four go on elsewhere")
    # The last pass of each there comes with a heartbeat; then the others alone go on.
    others: set[str] = set()

    def four_go_on() -> bool:
        others.clear()
        others.update(moved_on(lane))
        return len(others) == 4

    wait_until(four_go_on, "there is room for four")
    after = passes(lane)
    cancel(lane, but=set(before) - others)  # there is room again
    wait_until(
        lambda: all(passes(lane)[job] > after[job] for job in set(before) - others),
        "they go on on the node that is left",
    )
    assert all(after[job] >= done for job, done in before.items())
    assert sum(j.attempts + sum(r.attempts for r in j.renders) for j in lane.jobs()) == 0
    wait_until(
        lambda: leaving not in {node.id for node in GcsNodes(ray.address).alive()},
        "its raylet ends",
    )
    cancel(lane)


def test_nodes_come_and_go_and_one_that_never_comes_is_waited_for(
    cluster: tuple[LocalCluster, LiveLane],
) -> None:
    ray, lane = cluster
    wait_until(lambda: gpu_nodes(ray) == 0, "nothing is asked for")
    before, said = {job.id for job in lane.jobs()}, set(late(ray))
    asyncio.run(lane.submit([0.0] * 40, MINUTES))
    wait_until(lambda: lane.decoders().running == NODES, "every node that there is came")
    # Not while the second one was missing, too: since it came, the others have time again.
    wait_until(
        lambda: any(
            f" {lane.decoders().target - NODES} of them" in line for line in set(late(ray)) - said
        ),
        "the policy says what is missing",
    )
    target = lane.decoders().target
    assert NODES < target < MOST
    asyncio.run(lane.submit([0.0] * 40, MINUTES))
    time.sleep(3.0)  # it reads the ledger a dozen times
    assert lane.decoders().target == target  # no more is asked for
    with closing(SqlLedger(lane.dsn)) as ledger:
        cancelled = {job.id for job in lane.jobs() if ledger.cancel(job.id)}
    asyncio.run(lane.submit([0.0] * 20))
    wait_until(lambda: all(job.ended for job in lane.jobs()), "two nodes draw the rest")
    jobs = [job for job in lane.jobs() if job.id not in cancelled | before]
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 20
    assert sum(job.attempts + sum(r.attempts for r in job.renders) for job in jobs) == 0
    wait_until(lambda: lane.decoders().running == 0, "no decoder is needed")
    wait_until(lambda: gpu_nodes(ray) == 0, "the nodes leave")


def drain(ray: LocalCluster, *node: str) -> int:
    """`meltproof drain`; its exit code."""
    return main(["drain", *node, "--ray", ray.address, "--address", ray.dashboard_url])


def passes(lane: LiveLane) -> dict[str, int]:
    """How far those are that were begun, as the ledger knows."""
    return {
        job.id: job.renders[0].pass_no
        for job in lane.jobs()
        if not job.ended and job.renders[0].pass_no
    }


def cancel(lane: LiveLane, but: Collection[str] = ()) -> None:
    """All jobs except for some, and wait for that."""
    with closing(SqlLedger(lane.dsn)) as ledger:
        for job in lane.jobs():
            if job.id not in but:
                ledger.cancel(job.id)
    wait_until(lambda: all(j.ended for j in lane.jobs() if j.id not in but), "they are cancelled")


def moved_on(lane: LiveLane) -> set[str]:
    """Jobs that get further within a second."""
    before = passes(lane)
    time.sleep(1.0)
    return {job for job, done in passes(lane).items() if done > before.get(job, done)}


def handed_on(ray: LocalCluster) -> int:
    """Renders that decoders have let go, as they log it."""
    logs = ray.temp_dir.glob("session_[0-9]*/logs/serve/replica_meltproof_Decoder_*.log")
    said = "".join(log.read_text(errors="replace") for log in logs)
    return sum(map(int, re.findall(r"stopping: (\d+) renders go on elsewhere", said)))


def gpu_nodes(ray: LocalCluster) -> int:
    return sum(room.num_gpus > 0 for room in ray.serve.nodes())


def late(ray: LocalCluster) -> list[str]:
    """What controllers have logged of replicas that are missing; each line has its time."""
    return [line for line in controller_lines(ray.temp_dir) if "do not come" in line]
