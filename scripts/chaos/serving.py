"""The run with Ray: the whole service under HTTP load, while its processes are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from jobs.sql.sql_ledger import SqlLedger
from scripts.chaos import auditor
from scripts.chaos.http_clients import HttpClients
from scripts.chaos.world import LANE, World, left
from scripts.cluster import args_of, own_config, running
from serve_app.config.serve_file import load_serve_config
from serve_app.operate.local_cluster import LocalCluster, descendants
from serve_app.operate.serve_api import ClusterFailed

USERS = 9
REST_SECONDS = 120.0
KINDS = ("Decoder", "Gateway", "Dispatcher", "Decoder", "Gateway", "Dispatcher", "controller")


class Clients(Protocol):
    """A load that ends after `stop`."""

    stop: bool

    async def run(self, users: int) -> None: ...


@dataclass(slots=True)
class Killer:
    """Kills one after the other, of these kinds in turn, each only when another one of its kind
    runs; the controller, of which there is one, when it is back."""

    cluster: LocalCluster
    kinds: Sequence[str] = KINDS
    faults: Counter[str] = field(default_factory=Counter)
    _killed: set[int] = field(default_factory=set)

    def run(self, kills: int, seconds: float) -> None:
        """So many kills, or until the time is up."""
        draw, until = random.Random(0), time.monotonic() + seconds
        for number in range(kills):
            kind = self.kinds[number % len(self.kinds)]
            while time.monotonic() < until:
                victims = self._controllers() if kind == "controller" else self._running(kind)
                if len(victims) >= (1 if kind == "controller" else 2):
                    time.sleep(draw.uniform(0, 0.5))
                    self._kill(kind, draw.choice(sorted(victims)))
                    break
                time.sleep(0.25)

    def _kill(self, kind: str, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.faults[f"kill {kind.lower()} in Ray"] += 1
        self._killed.add(pid)

    def _running(self, kind: str) -> set[int]:
        """Pids below this process that Serve calls running."""
        try:
            applications = self.cluster.serve.status()["applications"].values()
        except (ClusterFailed, ValueError, KeyError):
            return set()  # the controller is being started again
        replicas = [
            replica
            for application in applications
            for name, deployment in application["deployments"].items()
            if name == kind
            for replica in deployment["replicas"]
        ]
        pids = {r["pid"] for r in replicas if r["state"] == "RUNNING"} - self._killed
        return pids & set(_below(b"ray::ServeReplica:"))

    def _controllers(self) -> set[int]:
        return set(_below(b"ray::ServeController")) - self._killed


def _below(title: bytes) -> Iterator[int]:
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(title):
                yield pid


def serving(kills: int, seconds: float, config_path: Path) -> dict[str, Any]:
    """Start the service, kill, come to rest, audit."""
    with tempfile.TemporaryDirectory(prefix="mp-chaos-ray-") as folder:
        world = auditor.watched_world(Path(folder))
        config = own_config(load_serve_config(config_path), Path(folder))
        for part in ("gateway", "dispatcher", "decoder"):
            args_of(config).setdefault(part, {})["replicas"] = 2
        args_of(config)["lane"] = LANE
        with running(config) as cluster:
            killer, clients = Killer(cluster), HttpClients(world, cluster.api_url)
            asyncio.run(under_load(clients, USERS, partial(killer.run, kills, seconds)))
            _rest(world)
        found = auditor.audit(world, collect=True, pictures=False)
        return {
            "faults": killer.faults.total(),
            **found.summary(),
            "kinds": dict(killer.faults),
            "answers_tried_again": dict(clients.errors),
        }


async def under_load(clients: Clients, users: int, work: Callable[[], None]) -> None:
    """That work beside so many clients; what they have begun is waited for."""
    load = asyncio.create_task(clients.run(users))
    try:
        await asyncio.to_thread(work)
    finally:
        clients.stop = True
        await load


def _rest(world: World) -> None:
    until = time.monotonic() + REST_SECONDS
    with closing(SqlLedger(world.url)) as ledger:
        while left(ledger) and time.monotonic() < until:
            time.sleep(0.2)
