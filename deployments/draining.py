"""Nodes of a Ray cluster, asked and told to leave from outside of it: through its GCS, since no
process has to join Ray for that, and Ray's dashboard has no word for it."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from enum import StrEnum

from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from ray.core.generated.gcs_pb2 import GcsNodeInfo
from ray.exceptions import RayError

ANSWER_SECONDS = 5.0
AWAY = (RayError, ValueError, RuntimeError, OSError)
"""What Ray's client raises for a GCS that does not answer, or an address that is none."""


class Reason(StrEnum):
    """Why a node leaves."""

    PREEMPTION = "preemption"
    """Whatever runs there: the machine will be taken away."""
    IDLE = "idle"
    """Only if nothing runs there."""


@dataclass(frozen=True, slots=True)
class GcsNode:
    """One that lives. draining: it was told to leave; gone_at: and when it will be gone, in seconds
    since 1970."""

    id: str
    address: str
    head: bool
    draining: bool
    gone_at: float | None


class GcsAway(Exception):
    """No GCS answers at that address."""


class DrainRefused(Exception):
    """Ray's reason not to."""


class GcsNodes:
    """Of the cluster whose GCS is at `address`, HOST:PORT."""

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port)), ANSWER_SECONDS):
                pass  # Ray's own client waits for forty seconds
            self._gcs = GcsClient(address=address)
        except AWAY as error:
            raise self._away(error) from None

    def alive(self) -> list[GcsNode]:
        """The head first. Raises GcsAway."""
        try:
            infos = self._gcs.get_all_node_info(timeout=ANSWER_SECONDS)
            deadlines: dict[str, int] = self._gcs.get_draining_nodes(timeout=ANSWER_SECONDS)
        except AWAY as error:
            raise self._away(error) from None
        nodes = [
            GcsNode(
                id=(node_id := key.hex()),
                address=info.node_manager_address,
                head=info.is_head_node,
                draining=node_id in deadlines,
                gone_at=deadlines.get(node_id, 0) / 1000 or None,
            )
            for key, info in infos.items()
            if info.state == GcsNodeInfo.ALIVE
        ]
        return sorted(nodes, key=lambda node: (not node.head, node.address, node.id))

    def drain(self, node: GcsNode, reason: Reason, deadline_seconds: float | None) -> None:
        """Tell it to leave: Ray places nothing there any more, Serve moves its replicas off, and
        its raylet ends once nothing runs there. deadline_seconds: until the machine is taken away.
        Raises GcsAway, DrainRefused."""
        why = {
            Reason.PREEMPTION: DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
            Reason.IDLE: DrainNodeReason.DRAIN_NODE_REASON_IDLE_TERMINATION,
        }[reason]
        gone_at = 0.0 if deadline_seconds is None else time.time() + deadline_seconds
        try:
            accepted, refusal = self._gcs.drain_node(
                node.id, why, "meltproof drain", int(gone_at * 1000), timeout=ANSWER_SECONDS
            )
        except AWAY as error:
            raise self._away(error) from None
        if not accepted:
            raise DrainRefused(refusal)

    def _away(self, error: Exception) -> GcsAway:
        return GcsAway(f"no Ray GCS answers at {self._address}: {error}")
