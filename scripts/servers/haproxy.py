"""HAProxy before the nodes of a cluster, by examples/haproxy.cfg."""

from __future__ import annotations

import csv
import io
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.children import await_start
from serve_app.operate.local_cluster import end_with_parent

EXAMPLE = Path(__file__).parents[2] / "examples/haproxy.cfg"
_SERVERS = "    server node-1 10.0.0.11:8000"
"""The first of the example's servers; the lines from here on are those of a run."""
_BIND = "bind :8080"
START_SECONDS = 20.0


class HaproxyMissing(RuntimeError):
    """The program is not installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """url: where clients reach it. control: its command socket."""

    url: str
    control: Path

    def up(self) -> set[str]:
        """Servers whose health checks pass."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.control))
            client.sendall(b"show stat\n")
            said = b"".join(iter(lambda: client.recv(65_536), b"")).decode()
        rows = csv.DictReader(io.StringIO(said.removeprefix("# ")))
        apart = {"FRONTEND", "BACKEND"}
        return {r["svname"] for r in rows if r["status"] == "UP" and r["svname"] not in apart}


@contextmanager
def haproxy(
    folder: Path, host: str, port: int, servers: Mapping[str, str]
) -> Iterator[LoadBalancer]:
    """Up while the block runs. servers: host:port by name; those that do not answer are left out
    until they do. Raises HaproxyMissing, TimeoutError."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if program is None:
        raise HaproxyMissing("HAProxy is not installed (apt-get install haproxy)")
    folder.mkdir(parents=True, exist_ok=True)
    control = folder / "control.sock"
    (folder / "haproxy.cfg").write_text(_config(host, port, servers, control))
    with (folder / "log").open("wb") as log:
        balancer = subprocess.Popen(
            [program, "-db", "-f", folder / "haproxy.cfg"],
            stdout=log,
            stderr=log,
            preexec_fn=end_with_parent,
        )
    try:
        await_start("HAProxy", balancer, control.exists, folder / "log", START_SECONDS)
        yield LoadBalancer(f"http://{host}:{port}", control)
    finally:
        balancer.kill()
        balancer.wait()


def _config(host: str, port: int, servers: Mapping[str, str], control: Path) -> str:
    """The example with these servers."""
    text, found, _ = EXAMPLE.read_text().partition(_SERVERS)
    if not found or text.count(_BIND) != 1:
        raise ValueError(f"{EXAMPLE} has no line {_SERVERS.strip()!r} or {_BIND!r}")
    text = text.replace(_BIND, f"bind {host}:{port}")
    text = text.replace("global\n", f"global\n    stats socket {control} level admin\n")
    return text + "".join(f"    server {name} {at}\n" for name, at in servers.items())
