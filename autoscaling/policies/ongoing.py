"""Replicas of a stage that holds no backlog of its own: by the requests it has in progress."""

from __future__ import annotations

import math

from autoscaling.policy import Decision, LoadSnapshot

EASE = 0.8
"""Replicas are given back once each of fewer would have only this share of what is aimed at."""


class OngoingRequests:
    """For encoder, safety classifier and gateway. per_replica: requests that each should have.

    The snapshot carries requests where a lane's carries work: running_seconds are those in
    progress, `waiting` those that wait for a replica."""

    def __init__(self, per_replica: float) -> None:
        self._per_replica = per_replica

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        ongoing = snapshot.running_seconds + snapshot.waiting_seconds
        wanted = math.ceil(ongoing / self._per_replica)
        enough = math.ceil(ongoing / (self._per_replica * EASE))
        replicas = max(wanted, min(snapshot.target, enough))
        return Decision(replicas, f"{ongoing:g} requests, {self._per_replica:g} a replica")
