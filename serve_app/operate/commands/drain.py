"""`meltproof drain`: tell a node to leave. Its renders go on elsewhere before it is gone."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence

import psutil
from rich.table import Table

from deployments.draining import DrainRefused, GcsAway, GcsNode, GcsNodes, Reason
from deployments.nodes import placed_replicas
from serve_app.config.cluster import environment
from serve_app.operate.cluster_places import SHORT, UnknownNode, named, of_addresses
from serve_app.operate.commands.operating import a_number, add_address, serve_at, speaker
from serve_app.operate.serve_api import ClusterFailed

DEADLINE_SECONDS = 30.0
"""What the clouds give spot machines, or less."""
LOOK_SECONDS = 0.5
EPILOG = """\
Without NODE it lists the nodes and what Meltproof runs there. A node that drains takes nothing new.
Renders that are surely done before its deadline are finished there; all others leave after the pass
that is under way, and go on elsewhere from exactly there. In a pod's preStop hook:
  meltproof drain --self --deadline 50 --wait

exit codes: 0 done; 1 Ray refused it, or with --wait it is still there at its deadline; 2 wrong
arguments or an unknown node; 3 no GCS answers"""


def main(arguments: Sequence[str]) -> int:
    """List or drain; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.node is not None and options.this_one:
        parser.error("name a NODE or say --self, not both")
    error = speaker(stderr=True)
    try:
        cluster = GcsNodes(options.ray)
        if options.node is None and not options.this_one:
            _list(cluster.alive(), options.address)
            return 0
        return _drain(cluster, _chosen(cluster.alive(), options.node), options)
    except UnknownNode as refusal:
        error.print(str(refusal))
        return 2
    except DrainRefused as refusal:
        error.print(f"Ray refuses: {refusal}")
        return 1
    except GcsAway as away:
        error.print(f"{away}; name it with --ray HOST:PORT")
        return 3


def _chosen(nodes: Sequence[GcsNode], name: str | None) -> GcsNode:
    node = of_addresses(nodes, _own_addresses()) if name is None else named(nodes, name)
    if node.head:
        raise UnknownNode(
            f"{node.address} is the head: without it no node joins or leaves. To replace it, see "
            "docs/nodes.md"
        )
    return node


def _own_addresses() -> set[str]:
    return {one.address for of_one in psutil.net_if_addrs().values() for one in of_one}


def _drain(cluster: GcsNodes, node: GcsNode, options: argparse.Namespace) -> int:
    until = time.monotonic() + options.deadline
    cluster.drain(node, Reason(options.reason), options.deadline)
    say = speaker()
    say.print(f"{node.id[:SHORT]} at {node.address} leaves, and is gone in {options.deadline:g} s")
    if not options.wait:
        return 0
    while time.monotonic() < until:
        if all(one.id != node.id for one in cluster.alive()):
            say.print("it has left")
            return 0
        time.sleep(LOOK_SECONDS)
    speaker(stderr=True).print("something runs there still, at its deadline")
    return 1


def _list(nodes: Sequence[GcsNode], address: str) -> None:
    runs: dict[str, Counter[str]] = {}
    try:
        runs = placed_replicas(serve_at(address).status()["applications"])
    except ClusterFailed as error:
        speaker(stderr=True).print(f"what runs there is not known: {error}")
    table = Table("node", "address", "state", "replicas", box=None, pad_edge=False)
    for node in nodes:
        counted = sorted(runs.get(node.id, Counter()).items())
        replicas = ", ".join(f"{count} {name}" for name, count in counted)
        table.add_row(node.id[:SHORT], node.address, _state(node), replicas)
    speaker().print(table)


def _state(node: GcsNode) -> str:
    if node.gone_at is not None:
        return f"gone in {max(0.0, node.gone_at - time.time()):.0f} s"
    return "draining" if node.draining else "head" if node.head else "up"


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not (host and port.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, not {text!r}")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meltproof drain",
        description="Tell a node of the cluster to leave: its renders go on elsewhere.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "node", nargs="?", metavar="NODE", help="its id or the beginning, or its IP"
    )
    parser.add_argument("--self", dest="this_one", action="store_true", help="this machine's node")
    parser.add_argument(
        "--deadline",
        type=a_number(0.0, 86_400.0),
        default=DEADLINE_SECONDS,
        metavar="SECONDS",
        help=f"until the machine is taken away (default: {DEADLINE_SECONDS:g})",
    )
    parser.add_argument(
        "--reason",
        choices=list(Reason),
        default=Reason.PREEMPTION,
        help="idle: only if nothing runs there (default: preemption)",
    )
    parser.add_argument("--wait", action="store_true", help="until it has left, or its deadline")
    parser.add_argument(
        "--ray",
        type=_host_and_port,
        default=environment().get("RAY_ADDRESS") or "127.0.0.1:6379",
        metavar="HOST:PORT",
        help="the GCS of the cluster (default: RAY_ADDRESS, or 127.0.0.1:6379)",
    )
    add_address(parser)
    return parser
