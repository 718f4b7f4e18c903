"""How replicas call each other: by Serve's own gRPC, on every cluster.

Serve's default are Ray's calls, and each of them that may be refused is a Ray generator, a unary
one, too. At the end of a generator Ray waits, on the event loop of the replica that was called,
until the caller has acknowledged every item. With a caller whose network is cut, nothing else
runs on that loop until Ray gives the caller's node up: a cut dispatcher would stop decoders,
encoders and classifiers everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.serve._private import replica
from ray.serve.handle import DeploymentHandle

LARGEST_BYTES = 2**31 - 1
"""Of a message, as Serve's proxies have it. Pictures of 1536 x 1024 and the embeddings of long
prompts are more than the 4 MiB that gRPC takes by default."""


def take_large_messages() -> None:
    """Of this process, if it becomes a replica: called where the deployment's class is imported,
    which Serve does before it makes the replica's server. Works on any cluster, whatever its
    environment says."""
    replica.RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH = LARGEST_BYTES


def by_grpc(handles: Mapping[str, DeploymentHandle]) -> dict[str, DeploymentHandle]:
    """The same, for calls whose arguments and results are no Ray objects."""
    return {name: handle.options(_by_reference=False) for name, handle in handles.items()}
