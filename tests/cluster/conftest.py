"""One real cluster for the whole test session, started and ended the way a person does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.local import alive, descendants, free_port
from deployments.serve_api import ServeApi

ROOT = Path(__file__).resolve().parents[2]
KEY, PAID_KEY = "sk-local", "sk-paid"


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


def wait_until(met: object, seconds: float, what: str) -> None:
    """Poll a condition; fails with `what` when it never holds."""
    deadline = time.monotonic() + seconds
    while not met():  # type: ignore[operator]
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.1)


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
    wait_until(lambda: gone not in serve.status()["applications"], 60, f"{gone} is gone")


def own_application(cluster: Running) -> dict[str, Any]:
    """That of the cluster's config file, to be changed and put beside it."""
    found: dict[str, Any] = yaml.safe_load(cluster.config.read_text())["applications"][0]
    return found


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("cluster")
    config = yaml.safe_load((ROOT / "configs/paced.yaml").read_text())
    config["http_options"]["port"] = free_port()
    args = config["applications"][0]["args"]
    args["ledger"]["dsn"] = f"sqlite:///{folder}/ledger.db"
    args["blobs"]["directory"] = f"{folder}/blobs"
    args["qualities"] = {"xhigh": 200}  # eight seconds, for who needs to meet a render under way
    args["tiers"]["pro"] = {"weight": 9}
    args["keys"].append({"key": PAID_KEY, "tenant": "paid", "tier": "pro"})
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
        )
    try:
        wait_until(
            lambda: "Ctrl-C" in log.read_text() or process.poll() is not None, 300, "cluster is up"
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
        code = process.wait(60)
    left = [command_line(pid) for pid in ours if alive(pid)]
    assert code == 0, log.read_text()
    assert left == [], "processes outlived Ctrl-C"
