"""A lane's load as one frozen snapshot, and the shape of every scaling policy.

Work is counted in GPU-seconds: what one replica does in a second when its batch is full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from jobs import depth

ARRIVAL_WINDOW_SECONDS = depth.ARRIVAL_WINDOW_SECONDS
"""Over which `LoadSnapshot.arrival_rate` is measured: as Knative's panic window."""


@dataclass(frozen=True, slots=True)
class TierLoad:
    """One tier's queue. oldest_seconds: how long its first job has waited."""

    jobs: int
    seconds: float
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """One lane at one moment: all that a policy may know."""

    at: float
    """Seconds on a clock that never goes back; only differences mean something."""
    waiting: Mapping[str, TierLoad]
    """Tiers with waiting jobs."""
    running_seconds: float
    """GPU-seconds left of what dispatchers hold."""
    arrival_rate: float
    """GPU-seconds accepted per second, over the last ARRIVAL_WINDOW_SECONDS."""
    replicas: int
    """That draw now."""
    target: int
    """Asked for last, with those that are still starting."""
    render_rate: float = 1.0
    """GPU-seconds that one busy replica draws in a second; 1 once costs are learned."""
    cold_start_seconds: float = 10.0
    """From asking for a replica until it draws, as lately measured."""
    unbegun_seconds: float = 0.0
    """Those of running_seconds that wait for a slot."""
    batch_rate: float = 0.0
    """GPU-seconds a second that batches need beside all of that, to be done within their
    windows."""

    @property
    def waiting_seconds(self) -> float:
        """GPU-seconds of work in the queue."""
        return sum(tier.seconds for tier in self.waiting.values())

    @property
    def drain_seconds(self) -> float:
        """How long the replicas that draw now need for what waits and runs; infinite with none."""
        work = self.waiting_seconds + self.running_seconds
        if work <= 0:
            return 0.0
        speed = self.replicas * self.render_rate
        return work / speed if speed > 0 else float("inf")


class Cause(StrEnum):
    """The kinds of reasons: what had the last word in a decision."""

    DEMAND = "demand"  # what waits, runs and is expected
    ENOUGH = "enough"  # fewer do
    KEPT = "kept"  # needed a moment ago
    STEP = "step"  # a step limit
    BATCH = "batch"  # what batches need within their windows
    BURST = "burst"  # nothing is given back in one
    MIN = "min_replicas"
    MAX = "max_replicas"
    STATIC = "static"


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas a lane should have, and why in a few words."""

    replicas: int
    reason: str
    cause: Cause = field(default=Cause.DEMAND, compare=False)


class ScalingReport(Protocol):
    """Hears what is decided for the deployments of a cluster. Returns at once."""

    def wanted(self, application: str, deployment: str, replicas: int) -> None:
        """A policy wants so many."""

    def decided(self, application: str, deployment: str, cause: Cause, *, up: bool) -> None:
        """It wants another number than there is, for a reason that is new."""

    def held(self, application: str, deployment: str) -> None:
        """It did not decide."""


Policy = Callable[[LoadSnapshot], Decision]
"""A policy may remember the snapshots that it was shown, and nothing else: no clock, no I/O. The
same snapshots in the same order give the same decisions, in Ray and in the simulator."""
