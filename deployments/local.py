"""A Ray cluster of one machine for one Serve config file: start it, deploy, wait, stop.

Ray runs as a child process, so that stopping it ends exactly what was started here. Everything
listens on loopback only.
"""

from __future__ import annotations

import ctypes
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from autoscaling.room import Reservation, shortage
from deployments.serve_api import APPLICATIONS, ClusterFailed, Say, ServeApi

ENVIRONMENT = (
    # With "clusters" off, Ray takes 127.0.0.1 as the node's address and binds only there.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0",
    # Nothing of ours blocks an event loop, so a replica needs no thread more for it.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD=0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP=0",
    "FORWARDED_ALLOW_IPS=",  # gateways decide themselves whose X-Forwarded-For they believe
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S=0.5",  # ten times a second costs an idle laptop
    # An entry point by name, as the import_path of a config file is.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_app.proxy:middlewares",
)
HEAD_ID = 51 * "f" + "00000"  # Ray's name for it
LOGICAL_NODES = (
    "RAY_FAKE_CLUSTER=1",
    "RAY_enable_autoscaler_v2=1",
    "AUTOSCALER_UPDATE_INTERVAL_S=1",
    f"RAY_CLOUD_INSTANCE_ID={HEAD_ID}",
    f"RAY_OVERRIDE_NODE_ID_FOR_TESTING={HEAD_ID}",
)
"""What Ray's fake node provider wants to find; it adds raylets instead of machines."""
LOOPBACK = "127.0.0.1"
FREE_PORTS = range(20_000, 32_768)
START_SECONDS = 120.0
STOP_SECONDS = 15.0
RETIRE_SECONDS = 10.0
OBJECT_STORE_BYTES = 200_000_000
"""Pictures pass by value; the store only carries what is larger than a message."""

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class LocalCluster:
    """One Ray head on loopback with one set of Serve applications.

    config: a Serve config file as a dict, already checked. dashboard_port: 0 picks a free one.
    reserved: what its replicas hold, which must fit on this machine. nodes: a cluster.yaml of
    Ray's for what its own autoscaler may add to the head: logical nodes on this machine.
    """

    def __init__(
        self,
        config: dict[str, Any],
        dashboard_port: int = 8265,
        reserved: Sequence[Reservation] = (),
        nodes: dict[str, Any] | None = None,
    ) -> None:
        self._config = config
        self._reserved = reserved
        self._nodes = nodes
        self._dashboard_port = dashboard_port or free_port()
        self._gcs_port = free_port()
        # Short, because Ray puts unix sockets below it and their paths are limited to 107 bytes.
        self.temp_dir = Path(tempfile.mkdtemp(prefix="mp-"))
        self._failed = False
        self._head: subprocess.Popen[bytes] | None = None

    @property
    def dashboard_url(self) -> str:
        """Where the Ray dashboard and Serve's REST API answer."""
        return f"http://{LOOPBACK}:{self._dashboard_port}"

    @property
    def serve(self) -> ServeApi:
        """Its Serve."""
        return ServeApi(self.dashboard_url)

    @property
    def address(self) -> str:
        """What `ray.init(address=...)` takes."""
        return f"{LOOPBACK}:{self._gcs_port}"

    @property
    def api_url(self) -> str:
        """Where the gateway answers."""
        options = self._config.get("http_options", {})
        return f"http://{options.get('host', LOOPBACK)}:{options.get('port', 8000)}"

    @property
    def application_urls(self) -> list[str]:
        """Where each application answers, in the order of the file."""
        prefixes = (app.get("route_prefix", "/") for app in self._config["applications"])
        return [self.api_url + (prefix or "").rstrip("/") for prefix in prefixes]

    def start(self, say: Say = lambda _: None) -> None:
        """Start Ray, deploy, and return when every application is running.
        Raises ClusterFailed; what was started is stopped first."""
        try:
            for port in (self._dashboard_port, self._config["http_options"]["port"]):
                require_free(port)
            say("starting Ray")
            self._start_head()
            self._require_room()
            say("deploying")
            self.deploy(self._config)
            self.serve.await_running(self._config, say)
        except BaseException:
            self._failed = True  # its logs are worth keeping
            self.stop()
            raise

    def deploy(self, config: dict[str, Any]) -> None:
        """What `serve deploy` does: put the whole config, numbers take effect in place."""
        self._config = config
        self.serve.put(config)

    def wait(self) -> int:
        """Until the head process ends; its exit status."""
        return self._head.wait() if self._head is not None else 0

    def stop(self) -> None:
        """End Ray and everything it started; returns when the last process is gone."""
        head, self._head = self._head, None
        if head is None:
            return
        children = descendants(head.pid)
        if head.poll() is None:
            self._retire_applications()
            head.send_signal(signal.SIGINT)  # on SIGTERM Ray first drains the node for a minute
        try:
            head.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            head.kill()
            head.wait()
        end_leftovers(children, STOP_SECONDS)
        if not self._failed:
            shutil.rmtree(self.temp_dir, ignore_errors=True)

    def _retire_applications(self) -> None:
        """Let Serve stop its replicas, so that dispatchers give their jobs back at once."""
        try:
            httpx.delete(f"{self.dashboard_url}{APPLICATIONS}", timeout=RETIRE_SECONDS)
        except httpx.HTTPError:
            return  # leases and checkpoints are for exactly this

    def _start_head(self) -> None:
        log = self.temp_dir / "head.log"
        command = [
            *("env", *ENVIRONMENT, *(LOGICAL_NODES if self._nodes else ())),
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
            *self._node_options(),
            *("--disable-usage-stats", "--node-ip-address", LOOPBACK),
            *("--port", str(self._gcs_port), "--temp-dir", str(self.temp_dir)),
            *("--include-dashboard", "true", "--dashboard-host", LOOPBACK),
            *("--dashboard-port", str(self._dashboard_port)),
            *("--object-store-memory", str(OBJECT_STORE_BYTES)),
        ]
        with log.open("wb") as out:
            self._head = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers(APPLICATIONS):
            if self._head.poll() is not None or time.monotonic() > deadline:
                raise ClusterFailed(f"Ray did not start:\n{tail(log)}")
            time.sleep(0.2)

    def _node_options(self) -> list[str]:
        if self._nodes is None:
            return []
        self._nodes["provider"]["gcs_address"] = self.address
        path = self.temp_dir / "nodes.json"
        path.write_text(json.dumps(self._nodes))
        head = self._nodes["available_node_types"][self._nodes["head_node_type"]]["resources"]
        options = [f"--num-{kind.lower()}s={head.get(kind, 0)}" for kind in ("CPU", "GPU")]
        return [f"--autoscaling-config={path}", *options]

    def _require_room(self) -> None:
        """Ray itself knows best what it found here."""
        if (short := shortage(self._reserved, self.serve.nodes())) is not None:
            raise ClusterFailed(short)

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(f"{self.dashboard_url}{path}", timeout=2).is_success
        except httpx.HTTPError:
            return False


def end_with_parent() -> None:
    """In the child: it gets a SIGINT when its parent dies, of whatever (Linux only), and hears it:
    shells start background jobs with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))


def free_port() -> int:
    """A port that is free, and that nobody gets by chance before it is used: it is none of those
    that systems take for outgoing connections, nor of those that Ray's workers take."""
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise ClusterFailed(f"no port from {FREE_PORTS.start} to {FREE_PORTS.stop - 1} is free")


def require_free(port: int) -> None:
    """ClusterFailed naming the port when somebody listens there already."""
    with socket.socket() as probe:
        if probe.connect_ex((LOOPBACK, port)) == 0:
            raise ClusterFailed(f"port {port} on {LOOPBACK} is in use by another program")


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def descendants(pid: int) -> list[int]:
    """Pids below `pid` now."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_leftovers(pids: list[int], seconds: float) -> None:
    """Wait for processes that were ours; end those that do not go by themselves."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    while any(alive(pid) for pid in left) and time.monotonic() < deadline + STOP_SECONDS:
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """True while the process exists and is not a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def run_forever(
    config: dict[str, Any],
    say: Say,
    dashboard_port: int = 8265,
    reserved: Sequence[Reservation] = (),
) -> int:
    """Start, say where everything is, stay up until Ctrl-C or a SIGTERM, stop. The exit code."""
    cluster = LocalCluster(config, dashboard_port, reserved)
    for ending in (signal.SIGINT, signal.SIGTERM):  # SIGINT is ignored in background shells
        signal.signal(ending, signal.default_int_handler)
    try:
        cluster.start(say)
        for url in cluster.application_urls:
            say(f"API        {url}/v1")
            say(f"Studio     {url}/")
        say(f"Dashboard  {cluster.dashboard_url}")
        say(f"Ray        {cluster.address}")
        say("Ctrl-C stops everything.")
        return cluster.wait()
    except ClusterFailed as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("stopping; accepted jobs stay in the ledger")
        return 0
    finally:
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.SIG_IGN)
        cluster.stop()
