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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from autoscaling.capacity import Reservation, shortage
from serve_app.operate.head_environment import (
    ANY_WORKER_PORT,
    LOOPBACK,
    PORT_OPTIONS,
    PORT_VARIABLES,
    head_environment,
    sockets_fit,
)
from serve_app.operate.serve_api import APPLICATIONS, ClusterFailed, NoCluster, Say, ServeApi
from serve_app.operate.start_failure import refusal, report, timed_out

FREE_PORTS = range(20_000, 32_768)
START_SECONDS = 120.0
STOP_SECONDS = 15.0
RETIRE_SECONDS = 10.0
DASHBOARDS = Path(__file__).resolve().parents[2] / "configs/monitoring/dashboards"
OBJECT_STORE_BYTES = 200_000_000
"""Pictures pass by value; the store only carries what is larger than a message."""

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class LocalCluster:
    """One Ray head on loopback with one set of Serve applications.

    config: a Serve config file as a dict, already checked. environment: of this process.
    dashboard_port: 0 picks a free one. reserved: what its replicas hold, which must fit
    on this machine. nodes: a cluster.yaml of Ray's for what its own autoscaler may add to the head:
    logical nodes on this machine.
    """

    def __init__(
        self,
        config: dict[str, Any],
        environment: Mapping[str, str],
        dashboard_port: int = 8265,
        reserved: Sequence[Reservation] = (),
        nodes: dict[str, Any] | None = None,
    ) -> None:
        self._config = config
        self._reserved = reserved
        self._nodes = nodes
        more = len(PORT_VARIABLES)
        picked, self._gcs_port, *ports = free_ports(2 + more + len(PORT_OPTIONS))
        self._dashboard_port = dashboard_port or picked
        self._ports = ports[more:]
        self.temp_dir = new_temp_dir()
        folder, logical = str(self.temp_dir.parent), nodes is not None
        self._environment = head_environment(
            environment, ports[:more], folder, logical_nodes=logical
        )
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
        """Where each application answers that has an ingress, in the order of the file."""
        prefixes = (app.get("route_prefix", "/") for app in self._config["applications"])
        return [self.api_url + prefix.rstrip("/") for prefix in prefixes if prefix is not None]

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
            self._provide_dashboards()
        except NoCluster as error:
            with suppress(subprocess.TimeoutExpired):  # it looks once a second what has ended
                if self._head is not None:
                    self._head.wait(3)
            self._fail()
            raise ClusterFailed(report(f"Ray failed: {error}", self.temp_dir)) from None
        except BaseException:
            self._fail()
            raise

    def _fail(self) -> None:
        self._failed = True  # its logs are worth keeping
        self.stop()

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
            url = f"{self.dashboard_url}{APPLICATIONS}"
            httpx.delete(url, timeout=RETIRE_SECONDS, trust_env=False)
        except httpx.HTTPError:
            return  # leases and checkpoints are for exactly this

    def _start_head(self) -> None:
        """Ray gives its raylet 30 s, which a busy machine may exceed; then it is started again."""
        deadline = time.monotonic() + START_SECONDS
        while not self._head_answers(self._run_head(), deadline):
            if time.monotonic() > deadline or not timed_out(self.temp_dir):
                raise ClusterFailed(report("Ray did not start", self.temp_dir))

    def _head_command(self) -> list[str]:
        ray = str(Path(sys.executable).with_name("ray"))
        ports = (f"{option}={port}" for option, port in zip(PORT_OPTIONS, self._ports, strict=True))
        return [
            *(ray, "start", "--head", "--block", *self._node_options(), *ports, *ANY_WORKER_PORT),
            *("--disable-usage-stats", "--node-ip-address", LOOPBACK),
            *("--port", str(self._gcs_port), "--temp-dir", str(self.temp_dir)),
            *("--include-dashboard", "true", "--dashboard-host", LOOPBACK),
            *("--dashboard-port", str(self._dashboard_port), "--include-log-monitor", "false"),
            *("--object-store-memory", str(OBJECT_STORE_BYTES)),
        ]

    def _run_head(self) -> subprocess.Popen[bytes]:
        with (self.temp_dir / "head.log").open("wb") as out:
            self._head = subprocess.Popen(
                self._head_command(),
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        return self._head

    def _head_answers(self, head: subprocess.Popen[bytes], deadline: float) -> bool:
        """Whether its dashboard answers; False when it ended before. ClusterFailed."""
        while not isinstance(answer := self._answer(APPLICATIONS), int) or answer >= 300:
            if isinstance(answer, int) and (why := refusal(self.dashboard_url, answer)):
                raise ClusterFailed(why)
            if head.poll() is not None:
                return False
            if time.monotonic() > deadline:
                what = f"after {START_SECONDS:.0f} s Ray's dashboard says: {answer}"
                raise ClusterFailed(report(what, self.temp_dir))
            time.sleep(0.2)
        return True

    def _provide_dashboards(self) -> None:
        """Ours beside Ray's, for a Grafana that is given Ray's provisioning folder."""
        for folder in self.temp_dir.glob("session_[0-9]*/metrics/grafana/dashboards"):
            for dashboard in DASHBOARDS.glob("*.json"):
                shutil.copy(dashboard, folder)

    def _node_options(self) -> list[str]:
        if self._nodes is None:
            return ["--no-monitor"]  # of Ray's autoscaler: there is nothing to add
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

    def _answer(self, path: str) -> int | str:
        """The status that a GET gets, or why there was no answer."""
        try:
            url = f"{self.dashboard_url}{path}"
            return httpx.get(url, timeout=2, trust_env=False).status_code
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__


def new_temp_dir() -> Path:
    """A folder of its own for Ray's sessions, whose unix sockets fit below it. ClusterFailed."""
    try:
        usual = tempfile.gettempdir()
        return Path(tempfile.mkdtemp(prefix="mp-", dir=usual if sockets_fit(usual) else "/tmp"))
    except OSError as error:
        raise ClusterFailed(f"no temporary folder can be made, see TMPDIR: {error}") from None


def end_with_parent() -> None:
    """In the child: it gets a SIGINT when its parent dies, of whatever (Linux only), and handles
    it: shells start background jobs with SIGINT ignored, and that is inherited."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT))


def free_port() -> int:
    """One of `free_ports`."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Ports that are free, and that no process gets by chance before they are used: they are none
    of those that systems take for outgoing connections. ClusterFailed."""
    found: list[int] = []
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            found.append(port)
        if len(found) == count:
            return found
    wanted = f"{count} ports from {FREE_PORTS.start} to {FREE_PORTS.stop - 1}"
    raise ClusterFailed(f"there are not {wanted} that are free")


def require_free(port: int) -> None:
    """ClusterFailed naming the port when another program listens there already."""
    with socket.socket() as probe:
        if probe.connect_ex((LOOPBACK, port)) == 0:
            raise ClusterFailed(
                f"port {port} on {LOOPBACK} is in use by another program: end it, or take another "
                "port (http_options.port of the config file, --dashboard-port of Ray's dashboard)"
            )


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
    environment: Mapping[str, str],
    say: Say,
    dashboard_port: int = 8265,
    reserved: Sequence[Reservation] = (),
) -> int:
    """Start, say where everything is, stay up until Ctrl-C or a SIGTERM, stop. The exit code."""
    for ending in (signal.SIGINT, signal.SIGTERM):  # SIGINT is ignored in background shells
        signal.signal(ending, signal.default_int_handler)
    try:
        cluster = LocalCluster(config, environment, dashboard_port, reserved)
    except ClusterFailed as error:
        say(str(error))
        return 1
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
