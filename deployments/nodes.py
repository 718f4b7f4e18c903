"""Which machines there are, and what Serve runs on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import ray
from ray._private.worker import global_worker
from ray.serve.context import _get_global_client  # what serve.status asks

from autoscaling.capacity import ClusterNode, NodeCapacity

GCS_SECONDS = 2.0


def alive_nodes() -> int:
    """Nodes of the Ray cluster that this process belongs to; 1 outside of one."""
    return sum(node["Alive"] for node in ray.nodes()) if ray.is_initialized() else 1


def applications() -> Mapping[str, Any]:
    """By name, as Serve's controller sends them. `serve.status` makes objects of Serve's schema of
    them first, of every deployment of the cluster with its router's class: ten times the work.
    Blocks. Raises what Ray does while its head or the controller is away."""
    client = _get_global_client(raise_if_no_controller_running=False)
    details = {} if client is None else client.get_serve_details()
    found: Mapping[str, Any] = details.get("applications", {})
    return found


def cluster_nodes() -> list[ClusterNode]:
    """All that Ray knows, also those that died. Blocks. Raises what Ray does while its head or the
    controller is away."""
    placed = placed_replicas(applications())
    leaving: dict[str, int] = global_worker.gcs_client.get_draining_nodes(timeout=GCS_SECONDS)
    return [_node(node, placed.get(node["NodeID"], {}), leaving) for node in ray.nodes()]


def placed_replicas(applications: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """By node, from Serve's details of its applications."""
    placed: dict[str, Counter[str]] = {}
    for application, details in applications.items():
        for deployment, found in details["deployments"].items():
            for replica in found["replicas"]:
                if node_id := replica.get("node_id"):  # none while it waits for a place
                    on_node = placed.setdefault(node_id, Counter())
                    on_node[f"{application}/{deployment}"] += 1
    return placed


def _node(
    node: Mapping[str, Any], replicas: Mapping[str, int], leaving: Mapping[str, int]
) -> ClusterNode:
    """leaving: until when nodes that drain are there, in milliseconds since the epoch, or 0."""
    offers, node_id = node["Resources"], node["NodeID"]
    return ClusterNode(
        id=node_id,
        address=node["NodeManagerAddress"],
        alive=node["Alive"],
        head="node:__internal_head__" in offers,
        offers=NodeCapacity(offers.get("CPU", 0.0), offers.get("GPU", 0.0)),
        replicas=dict(replicas),
        draining=node_id in leaving,
        gone_at=leaving.get(node_id, 0) / 1000 or None,
    )
