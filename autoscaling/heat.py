"""Heat: how far a lane's demand exceeds what it draws. Pure; the ledger's Depth is all it reads.

Work is in GPU-seconds; the one number is drain time: how long the lane needs for all it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoscaling.policy import LoadSnapshot, TierLoad
from jobs.depth import Depth, TierWaiting

TREND_SECONDS = 30.0
"""The time over which readings make a trend."""


@dataclass(frozen=True, slots=True)
class Heat:
    """One lane at one moment."""

    read_at: float
    waiting: Mapping[str, TierWaiting]
    """By tier, as the ledger tells it."""
    running_seconds: float
    """GPU-seconds left of what dispatchers hold."""
    arrival_rate: float
    """GPU-seconds accepted per second."""
    render_rate: float | None
    """GPU-seconds drawn per second; None while too little was drawn to say."""
    drain_seconds: float | None
    """Until all of it is done at that rate; None when the rate is unknown or 0."""
    trend: float | None = None
    """Growth of drain_seconds per second; None with fewer than two readings."""


class HeatMeter:
    """Turns readings of one lane, one after the other, into its heat."""

    def __init__(self) -> None:
        self._drawn_rate: float | None = None
        self._drains: deque[tuple[float, float]] = deque()

    def read(self, depth: Depth, replicas: int | None = None, rate: float = 1.0) -> Heat:
        """replicas: that draw now, `rate` GPU-seconds a second each; None: the lane's render rate
        is the one that was last measured, also when that is a while ago: an idle lane has not
        become slower."""
        if depth.drawn_rate is not None:
            self._drawn_rate = depth.drawn_rate
        render_rate = self._drawn_rate if replicas is None else replicas * rate
        drain = drain_seconds(depth.waiting_seconds + depth.running_seconds, render_rate)
        while self._drains and not 0 <= depth.read_at - self._drains[0][0] <= TREND_SECONDS:
            self._drains.popleft()
        if drain is not None:
            self._drains.append((depth.read_at, drain))
        return Heat(
            read_at=depth.read_at,
            waiting=depth.waiting,
            running_seconds=depth.running_seconds,
            arrival_rate=depth.arrival_rate,
            render_rate=render_rate,
            drain_seconds=drain,
            trend=slope(self._drains),
        )


def drain_seconds(work_seconds: float, render_rate: float | None) -> float | None:
    """How long that many GPU-seconds last at that rate; 0 without work."""
    if work_seconds <= 0:
        return 0.0
    return work_seconds / render_rate if render_rate else None


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the straight line nearest to (time, value) points; None unless two times differ."""
    if len(points) < 2:
        return None
    mean_at = sum(at for at, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    if spread <= 0:
        return None
    return sum((at - mean_at) * (value - mean) for at, value in points) / spread


def load_snapshot(
    depth: Depth,
    replicas: int,
    target: int,
    cold_start_seconds: float = 10.0,
    render_rate: float = 1.0,
) -> LoadSnapshot:
    """A reading of the ledger and the replicas, as policies see them."""
    return LoadSnapshot(
        at=depth.read_at,
        waiting={
            name: TierLoad(tier.jobs, tier.seconds, tier.oldest_seconds)
            for name, tier in depth.waiting.items()
            if tier.jobs
        },
        running_seconds=depth.running_seconds,
        arrival_rate=depth.arrival_rate,
        replicas=replicas,
        target=target,
        render_rate=render_rate,
        cold_start_seconds=cold_start_seconds,
        unbegun_seconds=depth.unbegun_seconds,
        batch_rate=depth.batch_rate,
    )
