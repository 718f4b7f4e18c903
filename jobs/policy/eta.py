"""When a job will be done, or None: pure maths over what the ledger knows of its lane.

Work is in predicted GPU-seconds, as `cost_seconds`; how many of them the lane draws in a second is
measured, so that a wrong prediction cancels out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WINDOW_SECONDS = 60.0
FINISHED_MIN = 3
"""With fewer finished jobs in the window there is no rate."""
ONE_DECODER = 1.0
"""The rate that predictions are made for."""


@dataclass(frozen=True, slots=True)
class HeldInterval:
    """A job's time with a dispatcher, and the GPU-seconds that were drawn of it meanwhile."""

    began_at: float
    ended_at: float
    drawn_seconds: float

    def share_after(self, since: float) -> float:
        """How much of it was drawn after `since`, if it was drawn evenly."""
        length = self.ended_at - self.began_at
        after = self.ended_at - max(self.began_at, since)
        return self.drawn_seconds * (after / length if length > 0 else 1.0) if after >= 0 else 0.0


def measured_rate(
    finished: Sequence[HeldInterval], active: Sequence[HeldInterval], now: float, since: float
) -> float | None:
    """GPU-seconds drawn in a second between `since` and `now`, not counting idle time. None when
    too little has finished to say."""
    if len(finished) < FINISHED_MIN:
        return None
    intervals = [*finished, *active]
    busy_seconds = _covered((max(s.began_at, since), min(s.ended_at, now)) for s in intervals)
    drawn_seconds = sum(stay.share_after(since) for stay in intervals)
    return drawn_seconds / busy_seconds if busy_seconds > 0 and drawn_seconds > 0 else None


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    total, reached = 0.0, float("-inf")
    for began, ended in sorted(spans):
        if ended > reached:
            total += ended - max(began, reached)
            reached = ended
    return total


def queued_eta(
    ahead_seconds: float, running: Iterable[float], own_seconds: float, rate: float | None
) -> float | None:
    """Seconds until a queued job is done: what runs, what is ahead of it, and the job itself.
    `running`: GPU-seconds left of every image that is being drawn."""
    return None if rate is None else (sum(running) + ahead_seconds + own_seconds) / rate


def held_eta(own: Sequence[float], running: Iterable[float], rate: float | None) -> float | None:
    """Seconds until a job in the decoders is done, where every image gets an equal share: until
    its longest image is done, no other image can have had more than that one.

    own: GPU-seconds left of its images, which are also among `running`. None once only finishing
    is left: how long that takes is not a matter of passes.
    """
    longest = max(own, default=0.0)
    if rate is None or longest <= 0:
        return None
    return sum(min(left, longest) for left in running) / rate
