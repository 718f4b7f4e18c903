"""What heat means: a lane's load as one frozen snapshot, and the shape of every scaling policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadSnapshot:
    """One lane at one moment.

    waiting_seconds: GPU-seconds of work that wait in the ledger.
    render_rate: GPU-seconds of work that one replica completes per second (its slots' speed-up).
    """

    waiting_seconds: float
    running_seconds: float
    replicas: int
    render_rate: float

    @property
    def drain_seconds(self) -> float:
        """How long today's replicas need for what waits and runs; infinite with none of them."""
        work = self.waiting_seconds + self.running_seconds
        if work <= 0:
            return 0.0
        speed = self.replicas * self.render_rate
        return work / speed if speed > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas a lane should have, and why in a few words."""

    replicas: int
    reason: str


Policy = Callable[[LoadSnapshot], Decision]
