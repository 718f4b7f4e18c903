"""The Ray cluster: a head that only manages, and workers, each on a machine of `network`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scripts.chaos_cluster.network import Network
from scripts.servers.redis import RedisServer
from serve_app.config.cluster import environment
from serve_app.operate.head_environment import ALWAYS, OF_OTHER_CLUSTERS
from serve_app.operate.serve_api import APPLICATIONS, ServeApi

HEAD = "head"
GCS_PORT, DASHBOARD_PORT = 6379, 8265
WORKER_CPUS = 2
START_SECONDS = 120.0
_RAY = str(Path(sys.executable).with_name("ray"))
OBJECT_STORE_BYTES = 80_000_000
DETECTION = {
    # The head asks each node once a second, and gives it up after four questions in a row without
    # an answer within two: about ten seconds in place of Ray's sixty.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_health_check_initial_delay_ms": "5000",
}


@dataclass(slots=True)
class RayNodes:
    """On that network. redis: keeps what the head must not forget. folder: for Ray's own files,
    with a short path."""

    network: Network
    folder: Path
    redis: RedisServer
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def serve(self) -> ServeApi:
        """Serve's REST API at the head."""
        return ServeApi(f"http://{self.network.add(HEAD)}:{DASHBOARD_PORT}")

    @property
    def workers(self) -> list[str]:
        """Names of those that were started and not ended."""
        return [name for name in self._running if name != HEAD]

    def start_head(self) -> None:
        """Start it, or start it again; returns when Serve's API answers."""
        address = self.network.add(HEAD)
        (self._temp(HEAD) / "ray_current_cluster").unlink(missing_ok=True)
        options = {
            "port": GCS_PORT, "dashboard-host": address, "dashboard-port": DASHBOARD_PORT,
            "num-cpus": 0, "include-dashboard": "true",
        }  # fmt: skip
        store = {
            "RAY_REDIS_ADDRESS": self.redis.address,
            "RAY_external_storage_namespace": "chaos",
            **DETECTION,
        }
        self._start(HEAD, ["--head", *_flags(options)], store)
        deadline = time.monotonic() + START_SECONDS
        while not self._dashboard_answers():
            if self._running[HEAD].poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"the head did not start: {self._said(HEAD)}")
            time.sleep(0.2)

    def start_worker(self, name: str) -> None:
        """Start it, or start it again after it was killed. Returns at once."""
        self.network.add(name)
        shutil.rmtree(self._temp(name), ignore_errors=True)
        options = {
            "address": f"{self.network.add(HEAD)}:{GCS_PORT}", "num-cpus": WORKER_CPUS,
            "resources": json.dumps({name: 1}),
        }  # fmt: skip
        self._start(name, _flags(options), {})

    def kill(self, name: str) -> set[int]:
        """The node with everything on it; the pids of what ran there."""
        killed = self.network.kill(name)
        if (process := self._running.pop(name, None)) is not None:
            process.wait()
        return killed

    def drain(self, name: str, seconds: float) -> None:
        """`meltproof drain`: tell the node that it is gone after so many seconds."""
        options = {"deadline": seconds, "ray": f"{self.network.add(HEAD)}:{GCS_PORT}"}
        command = [sys.executable, "-m", "serve_app", "drain", self.network.add(name)]
        subprocess.run([*command, *_flags(options)], check=True, env=_environment())

    def ended(self, name: str) -> bool:
        """Whether its raylet has given up."""
        process = self._running.get(name)
        return process is None or process.poll() is not None

    def node_id(self, name: str) -> str:
        """What Ray calls that node. LookupError when it does not know it, or thinks it dead."""
        address = self.network.add(name)
        url = f"{self.serve.address}/api/v0/nodes?limit=1000"
        answer = httpx.get(url, timeout=10, trust_env=False).json()
        for node in answer["data"]["result"]["result"]:
            if node["node_ip"] == address and node["state"] == "ALIVE":
                return str(node["node_id"])
        raise LookupError(f"Ray knows no living node {name}")

    def stop(self) -> None:
        """Kill everything."""
        for name in list(self._running):
            self.kill(name)

    def _start(self, name: str, options: list[str], more: Mapping[str, str]) -> None:
        common = {
            "node-ip-address": self.network.add(name), "temp-dir": self._temp(name),
            "redis-password": self.redis.password, "object-store-memory": OBJECT_STORE_BYTES,
        }  # fmt: skip
        command = [_RAY, "start", "--block", "--disable-usage-stats", *options, *_flags(common)]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self.network.inside(name, command),
                stdout=log,
                stderr=log,
                env={**_environment(), **more, "TMPDIR": str(self._temp(name))},
            )

    def _temp(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _dashboard_answers(self) -> bool:
        with suppress(httpx.HTTPError):
            url = f"{self.serve.address}{APPLICATIONS}"
            return httpx.get(url, timeout=2, trust_env=False).is_success
        return False

    def _said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-2000:]


def _environment() -> dict[str, str]:
    unwanted = {name for name in environment() if name.lower().endswith("_proxy")}
    kept = environment().items()
    several = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "RAY_SERVE_PROXY_USE_GRPC": "1"}
    return {n: v for n, v in kept if n not in OF_OTHER_CLUSTERS | unwanted} | ALWAYS | several


def _flags(options: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]
