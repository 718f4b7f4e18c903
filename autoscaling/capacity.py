"""Whether the replicas that a config file promises fit on these machines. Pure arithmetic.

Serve itself would start what fits and let the rest wait for ever without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one deployment holds at all times."""

    application: str
    deployment: str
    replicas: int
    """The least number of them."""
    num_cpus: float
    """Of each replica."""
    num_gpus: float
    """Of each replica."""
    most: int = 0
    """Replicas that autoscaling may ask for."""


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """What a node offers."""

    num_cpus: float
    num_gpus: float


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A machine of the cluster, and what Serve runs on it."""

    id: str
    address: str
    alive: bool
    head: bool
    offers: NodeCapacity
    replicas: Mapping[str, int]
    """By application/deployment, those that run and those that start or stop."""
    draining: bool = False
    """It was told to leave."""
    gone_at: float | None = None
    """When it will be gone, where that was said; seconds since the epoch."""


def shortage(reservations: Sequence[Reservation], nodes: Sequence[NodeCapacity]) -> str | None:
    """What does not fit, by name and with the sum; None when all of it does. Only CPUs and GPUs
    are counted: labels and resources of other names are between the file and the nodes."""
    return (
        _shortage(reservations, "num_cpus", nodes)
        or _shortage(reservations, "num_gpus", nodes)
        or _in_pieces(reservations, nodes)
    )


def needed(reservations: Sequence[Reservation], what: str, *, most: bool = False) -> float:
    """The sum of `num_cpus` or `num_gpus`, at the least or the most number of replicas."""
    counts = [max(r.replicas, r.most) if most else r.replicas for r in reservations]
    each: list[float] = [getattr(r, what) for r in reservations]
    return round(sum(n * amount for n, amount in zip(counts, each, strict=True)), 4)


def _shortage(
    reservations: Sequence[Reservation], what: str, nodes: Sequence[NodeCapacity]
) -> str | None:
    total, offered = needed(reservations, what), sum(getattr(node, what) for node in nodes)
    if total <= offered:
        return None
    terms = [
        f"{r.application}/{r.deployment} {r.replicas} x {each:g}"
        for r in reservations
        if (each := getattr(r, what))
    ]
    nodes_offer = "this machine offers" if len(nodes) == 1 else f"{len(nodes)} nodes offer"
    return (
        f"{what}: {' + '.join(terms)} = {total:g}, but {nodes_offer} {offered:g}; "
        f"lower replicas or {what} by {total - offered:.4g}"
    )


def _in_pieces(reservations: Sequence[Reservation], nodes: Sequence[NodeCapacity]) -> str | None:
    """A replica never spans nodes. The largest first, each on the node that it fills best."""
    left = [[node.num_gpus, node.num_cpus] for node in nodes]
    for r in sorted(reservations, key=lambda r: (r.num_gpus, r.num_cpus), reverse=True):
        for placed in range(r.replicas):
            fitting = [n for n in left if n[0] >= r.num_gpus - 1e-6 and n[1] >= r.num_cpus - 1e-6]
            if not fitting:
                return (
                    f"{r.application}/{r.deployment}: {placed} of {r.replicas} replicas with "
                    f"{r.num_cpus:g} CPUs and {r.num_gpus:g} GPUs fit; the sums do, but a replica "
                    "never spans nodes: make replicas smaller or nodes larger"
                )
            node = min(fitting)
            node[0] -= r.num_gpus
            node[1] -= r.num_cpus
    return None
