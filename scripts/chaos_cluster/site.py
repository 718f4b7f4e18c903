"""The whole of it: machines, servers, Ray, the service, and HAProxy in front."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jobs.sql.sql_ledger import SqlLedger
from scripts.chaos import auditor
from scripts.chaos.world import LANE, World
from scripts.chaos_cluster.databases import Database, database
from scripts.chaos_cluster.network import HERE, Network
from scripts.chaos_cluster.ray_nodes import RayNodes
from scripts.cluster import Config, args_of
from scripts.servers.haproxy import LoadBalancer, haproxy
from scripts.servers.redis import redis_server
from scripts.servers.seaweedfs import SeaweedFS
from serve_app.operate.serve_api import ClusterFailed

CONFIG = Path(__file__).with_name("cluster.yaml")
WORKERS = ("one", "two", "three")
SPARES = ("four", "five", "six", "seven")
"""Machines that nodes are added on."""
PROXY_PORT = 8000
UP_SECONDS = 180.0


@dataclass(slots=True)
class Site:
    """Everything that a stage may break. config: what was deployed last."""

    world: World
    network: Network
    nodes: RayNodes
    balancer: LoadBalancer
    database: Database
    pictures: SeaweedFS
    config: Config
    used: set[str] = field(default_factory=set)
    """Spare machines that were given a node."""

    def add_node(self) -> str:
        """A new node, on a machine that had none; its name. Returns when Ray knows it."""
        name = next(name for name in SPARES if name not in self.used)
        self.used.add(name)
        self.nodes.start_worker(name)
        _await_nodes(self.nodes, (name,))
        return name

    def deploy(self, config: Config) -> None:
        """What `serve deploy` does; returns at once."""
        self.config = config
        self.nodes.serve.put(config)

    def replicas(self, name: str) -> list[dict[str, Any]]:
        """Of that deployment, as Serve sees them now. Raises ClusterFailed."""
        application = self.nodes.serve.status()["applications"]["meltproof"]
        found: list[dict[str, Any]] = application["deployments"][name]["replicas"]
        return found

    def whole(self) -> bool:
        """Whether Serve has all replicas that it wants, and HAProxy all nodes."""
        application = self.nodes.serve.status()["applications"].get("meltproof", {})
        deployments = application.get("deployments", {}).values()
        return (
            application.get("status") == "RUNNING"
            and all(d["status"] == "HEALTHY" for d in deployments)
            and all(
                sum(r["state"] == "RUNNING" for r in d["replicas"]) == d["target_num_replicas"]
                for d in deployments
            )
            and set(self.nodes.workers) <= self.balancer.up()
        )

    def await_whole(self, seconds: float = UP_SECONDS) -> float:
        """Seconds until it is so. TimeoutError."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            with suppress(ClusterFailed):  # the head may be away
                if self.whole():
                    return time.monotonic() - began
            time.sleep(0.25)
        raise TimeoutError(f"the cluster is not whole after {seconds:.0f} s: {self._status()}")

    def await_replaced(self, name: str, before: set[str]) -> None:
        """Until none of these actors is a replica of that deployment. TimeoutError."""

        def met() -> bool:
            now = {replica["actor_id"] for replica in self.replicas(name)}
            return bool(now) and not now & before

        self._until(met, name)

    def await_moved(self, node: str, seconds: float) -> None:
        """Until no replica runs on that node, or the time is up."""
        address = self.network.add(node)
        names = ("Gateway", "Dispatcher", "Decoder")

        def met() -> bool:
            return all(r.get("node_ip") != address for name in names for r in self.replicas(name))

        with suppress(TimeoutError):
            self._until(met, node, seconds)

    def _until(self, met: Callable[[], bool], what: str, seconds: float = UP_SECONDS) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(ClusterFailed, LookupError):  # Serve may be about to build it
                if met():
                    return
            time.sleep(0.25)
        raise TimeoutError(f"{what} did not move on within {seconds:.0f} s: {self._status()}")

    def _status(self) -> str:
        try:
            applications = self.nodes.serve.status()["applications"].values()
        except ClusterFailed as error:
            return str(error)
        return (
            "; ".join(
                f"{name} {d['status']} {[(r['state'], r.get('node_ip')) for r in d['replicas']]}"
                f" {d['message'][:300]}"
                for app in applications
                for name, d in app["deployments"].items()
            )
            + f"; HAProxy has {sorted(self.balancer.up())}"
        )


@contextmanager
def site(folder: Path, workers: tuple[str, ...], *, patroni: bool) -> Iterator[Site]:
    """Up while the block runs. workers: names of nodes. patroni: else one server of PostgreSQL."""
    with ExitStack() as stack:
        network = Network()
        addresses = {name: network.add(name) for name in (*workers, *SPARES)}
        store = stack.enter_context(redis_server(folder / "redis", HERE, 6390))
        ledger = stack.enter_context(database(folder, patroni=patroni))
        pictures = stack.enter_context(SeaweedFS(folder=folder, host=HERE))
        world = World(folder, ledger.url)
        world.prepare()
        SqlLedger(world.url).close()  # makes the tables
        auditor.install(world.url)
        nodes = RayNodes(network, folder / "ray", store)
        stack.callback(nodes.stop)
        nodes.folder.mkdir()
        nodes.start_head()
        for name in workers:
            nodes.start_worker(name)
        servers = {name: f"{address}:{PROXY_PORT}" for name, address in addresses.items()}
        balancer = stack.enter_context(haproxy(folder / "haproxy", HERE, 8080, servers))
        config = config_of(world, pictures, len(workers))
        made = Site(world, network, nodes, balancer, ledger, pictures, config)
        _await_nodes(nodes, workers)
        made.deploy(made.config)
        nodes.serve.await_running(made.config, lambda _: None)
        made.await_whole()
        yield made


def config_of(world: World, pictures: SeaweedFS, nodes: int) -> Config:
    """One gateway, dispatcher and decoder on each node, so that a node that comes back gets what it
    had."""
    config: Config = yaml.safe_load(CONFIG.read_text())
    args = args_of(config)
    args["lane"] = LANE
    args["ledger"] = {"dsn": world.url}
    args["blobs"] = {"s3": pictures.section()}
    args["model"]["options"]["passes_folder"] = str(world.folder / "passes")
    for part in ("gateway", "dispatcher", "decoder"):
        args.setdefault(part, {})["replicas"] = nodes
    return config


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    """The same with other values in sections of its args."""
    config = copy.deepcopy(config)
    for name, values in sections.items():
        args_of(config).setdefault(name, {}).update(values)
    return config


def _await_nodes(nodes: RayNodes, workers: tuple[str, ...]) -> None:
    deadline = time.monotonic() + UP_SECONDS
    for name in workers:
        while True:
            try:
                nodes.node_id(name)
                break
            except LookupError:
                if time.monotonic() > deadline:
                    raise
                if nodes.ended(name):  # Ray gives a raylet 30 s, which a busy machine may exceed
                    nodes.kill(name)
                    nodes.start_worker(name)
                time.sleep(0.25)
