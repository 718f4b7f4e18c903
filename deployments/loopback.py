"""Keeps replicas off the network where their whole cluster is: Serve 2.60 binds every replica's
inter-deployment port to all interfaces and has no option for it.

On a cluster whose node address is 127.0.0.1 no other machine could reach that port anyway.
"""

from __future__ import annotations

import ray
from ray.serve._private import replica

LOOPBACK = "127.0.0.1"


def install() -> None:
    """Called by every module that a replica is made of, before Serve opens the port."""
    replica.add_port_to_grpc_server = _add_port


_serve_add_port = replica.add_port_to_grpc_server


def _add_port(server: object, address: str) -> int:
    if ray.util.get_node_ip_address() == LOOPBACK:
        address = address.replace("[::]:", f"{LOOPBACK}:")
    port: int = _serve_add_port(server, address)
    return port
