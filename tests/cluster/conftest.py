"""One real cluster for all of these tests, started and ended the way a person does."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.sql.sql_ledger import SqlLedger
from serve_app.operate.local_cluster import alive, descendants, free_port
from serve_app.operate.serve_api import ClusterFailed, ServeApi

ROOT = Path(__file__).resolve().parents[2]
KEY, PAID_KEY = "sk-local", "sk-paid"
CANARY = "canary-in-every-secret-that-the-config-holds"
"""Nothing may write it down."""
PATIENCE_SECONDS = 120
"""How long a condition may take on a slow machine that also does something else."""
AGES = "xhigh"
"""The quality of a render that goes on for half a minute, unless it is cancelled."""
MOST_PASSES = 256
LEASE_SECONDS = 7.0
"""Longer than a machine stands still, and short enough to wait for that of a killed dispatcher."""


@dataclass(frozen=True)
class Running:
    """api: base URL of the gateway. ray: what RAY_ADDRESS takes. pid: of `meltproof run`."""

    api: str
    dashboard: str
    ray: str
    pid: int
    log: Path
    config: Path

    @property
    def ray_folder(self) -> Path:
        """Where Ray keeps its logs and sockets."""
        lines = (command_line(pid) for pid in descendants(self.pid))
        return Path(next(re.search(r"--temp-dir (\S+)", s)[1] for s in lines if "--temp-dir" in s))  # type: ignore[index]

    def pids(self, name: str) -> list[int]:
        """Processes of this cluster whose command line carries `name`."""
        return [pid for pid in descendants(self.pid) if name in command_line(pid)]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def wait_until(met: object, what: str) -> None:
    """Poll a condition; fails with `what` when it never holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not met():  # type: ignore[operator]
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE_SECONDS} s: {what}")
        time.sleep(0.1)


def dsn(cluster: Running) -> str:
    """Of the ledger."""
    config = yaml.safe_load(cluster.config.read_text())
    return str(config["applications"][0]["args"]["ledger"]["dsn"])


def count_jobs(cluster: Running, which: str = "true") -> int:
    """So many the ledger has."""
    with closing(sqlite3.connect(dsn(cluster).removeprefix("sqlite:///"))) as ledger:
        return int(ledger.execute(f"select count(*) from jobs where {which}").fetchone()[0])


def cancel_all(cluster: Running, but: Collection[str] = ()) -> None:
    """Everything that has not ended, and wait for that. but: ids of jobs that go on."""
    with closing(SqlLedger(dsn(cluster))) as ledger:
        for tenant in ("local", "paid"):
            for job in ledger.recent(tenant, 1000):
                if not job.ended and job.id not in but:
                    ledger.cancel(job.id)
    left = "finished_at is null" + "".join(f" and id <> '{job_id}'" for job_id in but)
    wait_until(lambda: count_jobs(cluster, left) == 0, "the rest is cancelled")


def settled(cluster: Running) -> bool:
    """Whether Serve has all the replicas that it wants, and all of their processes live, and no
    others."""
    try:
        applications = ServeApi(cluster.dashboard).status()["applications"].values()
    except ClusterFailed:
        return False
    deployments = [d for app in applications for d in app["deployments"].values()]
    replicas = [replica for d in deployments for replica in d["replicas"]]
    return (
        {app["status"] for app in applications} == {"RUNNING"}
        and {d["status"] for d in deployments} == {"HEALTHY"}
        and {replica["state"] for replica in replicas} == {"RUNNING"}
        and all(len(d["replicas"]) == d["target_num_replicas"] for d in deployments)
        and {replica["pid"] for replica in replicas} == set(cluster.pids("ServeReplica:"))
    )


@pytest.fixture
def at_rest(cluster: Running) -> None:
    """Whatever an earlier test left under way has ended."""
    wait_until(lambda: count_jobs(cluster, "finished_at is null") == 0, "no job is left")
    wait_until(lambda: settled(cluster), "no replica comes or goes")


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """These processes stand still inside."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def controller_lines(ray_folder: Path) -> list[str]:
    """What the controllers of a cluster have logged so far. Not by way of `session_latest`: each
    worker that starts makes that link anew, and for a moment there is none."""
    logs = ray_folder.glob("session_[0-9]*/logs/serve/controller_[0-9]*.log")
    return [line for log in logs for line in log.read_text(errors="replace").splitlines()]


@contextmanager
def beside(cluster: Running, second: dict[str, Any]) -> Iterator[ServeApi]:
    """A second application while the cluster's own goes on."""
    serve, before = ServeApi(cluster.dashboard), yaml.safe_load(cluster.config.read_text())
    both = {**before, "applications": [*before["applications"], second]}
    serve.put(both)
    serve.await_running(both, lambda _: None)
    yield serve
    serve.put(before)
    gone = second["name"]
    wait_until(lambda: gone not in serve.status()["applications"], f"{gone} is gone")


def own_application(cluster: Running) -> dict[str, Any]:
    """That of the cluster's config file, to be changed and put beside it."""
    found: dict[str, Any] = yaml.safe_load(cluster.config.read_text())["applications"][0]
    return found


def unfriendly(folder: Path) -> dict[str, str]:
    """What users have around them: the token that any `ray.init()` leaves in the home, proxies that
    do not answer, another cluster's address, a folder too deep for unix sockets."""
    home, deep = folder / "home", folder / ("deep" * 20)
    (home / ".ray").mkdir(parents=True)
    deep.mkdir()
    (home / ".ray/auth_token").write_text("a-token-of-another-cluster")
    proxies = dict.fromkeys(
        ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9"
    )
    return {
        **os.environ,
        **proxies,
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "HOME": str(home),
        "RAY_ADDRESS": "127.0.0.1:9",
        "TMPDIR": str(deep),
    }


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("cluster")
    config = yaml.safe_load((ROOT / "configs/paced.yaml").read_text())
    config["http_options"]["port"] = free_port()
    args = config["applications"][0]["args"]
    args["ledger"]["dsn"] = f"sqlite:///{folder}/ledger.db"
    args["blobs"]["directory"] = f"{folder}/blobs"
    args["model"]["options"] = {"pass_ms": 100, "per_row_ms": 5}
    args["qualities"] = {"low": 2, "medium": 4, "high": 8, "max": 12, AGES: MOST_PASSES}
    args["metrics"] = {"port": free_port()}
    args["dispatcher"] = {"lease_seconds": LEASE_SECONDS}
    args["gateway"]["hosts"] += ["api.example.com", "elsewhere.example.com"]
    args["tiers"]["pro"] = {"weight": 9}
    args["keys"].append({"key": PAID_KEY, "tenant": "paid", "tier": "pro"})
    args["keys"].append({"key": CANARY, "tenant": "canary"})
    args["signing"] = [{"id": "canary", "secret": CANARY}]
    # Tests compare files, and a manifest says when each was made.
    args["provenance"] = {"manifest": False, "keys": [{"id": "canary", "secret": CANARY}]}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    log = folder / "run.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "serve_app", "run", str(folder / "config.yaml")),
                *("--dashboard-port", "0"),
            ],
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=unfriendly(folder),
        )
    try:
        wait_until(
            lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, "cluster is up"
        )
        said = dict(re.findall(r"^(\w+) +(\S+)$", log.read_text(), re.MULTILINE))
        assert process.poll() is None, log.read_text()
        yield Running(
            said["Studio"].rstrip("/"),
            said["Dashboard"],
            said["Ray"],
            process.pid,
            log,
            folder / "config.yaml",
        )
    finally:
        ours = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_SECONDS)
    left = [command_line(pid) for pid in ours if alive(pid)]
    assert code == 0, log.read_text()
    assert left == [], "processes outlived Ctrl-C"
