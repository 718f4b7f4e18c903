"""What is simulated: requests that arrive, their images, and the lane that draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from autoscaling.limits import Threshold
from engine.cost import PassCost
from jobs.policy.fair_queue import LEAST_SHARE
from jobs.tiers import Tier

BATCH_KEY = "simulated"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at second `at` of the simulated clock, which begins at midnight.

    passes: of each image; None: as many as the lane's own. newcomer: the tenant never asked before.
    """

    at: float
    tenant: str = "somebody"
    tier: str = "free"
    images: int = 1
    passes: int | None = None
    newcomer: bool = False


@dataclass(frozen=True, slots=True)
class ColdStart:
    """From asking for a replica until it draws: always the median, or log-normal when the 90th
    percentile is given, too."""

    median_seconds: float
    p90_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.median_seconds <= (self.p90_seconds or math.inf) or self.p90_seconds == 0:
            raise ValueError("a cold start must be at least 0, and its p90 at least its median")

    def seconds(self, random: Random) -> float:
        """One of them."""
        if self.p90_seconds is None or self.median_seconds == 0:
            return self.median_seconds
        sigma = math.log(self.p90_seconds / self.median_seconds) / 1.2815515655446004
        return self.median_seconds * math.exp(sigma * random.gauss(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Lane:
    """Everything of a lane that decides who waits how long.

    cost: of one pass. passes: of an image. replicas: that draw at the start. nodes: replicas that
    find room, whatever is asked for; None: all. start_failures: share of starts that fail, at their
    end, and are tried again. failures_per_hour: of one drawing replica. dispatch_seconds: from a
    slot that is free, or a job that arrives, until the job has joined. shelf, headroom: images that
    are claimed ahead of a slot, and as many more for each drawing replica. thresholds: what
    tightens the tiers while the lane is hot. late_seconds: see ColdStarts. deadline_seconds: how
    long the simulation goes on after the last arrival for jobs that still wait.
    """

    cost: PassCost
    slots: int = 4
    passes: int = 12
    tiers: Mapping[str, Tier] = field(default_factory=lambda: {"free": Tier()})
    least_share: float = LEAST_SHARE
    min_replicas: int = 1
    max_replicas: int = 1
    replicas: int = 1
    cold_start: ColdStart = ColdStart(10.0)
    nodes: int | None = None
    grace_seconds: float = 30.0
    start_failures: float = 0.0
    failures_per_hour: float = 0.0
    dispatch_seconds: float = 0.005
    shelf: int = 2
    headroom: int = 0
    tick_seconds: float = 1.0
    thresholds: Sequence[Threshold] = ()
    late_seconds: float = 120.0
    deadline_seconds: float = 86_400.0

    @property
    def row_seconds(self) -> float:
        """GPU-seconds of one pass of one image, in a full batch."""
        return self.cost.seconds(self.slots) / self.slots

    @property
    def picture_seconds(self) -> float:
        """GPU-seconds of one image, in a full batch."""
        return self.passes * self.row_seconds


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way. Times are None until they come.

    stamp: its place in the fair queue. left: passes left of each image when it was last in the
    queue; renders: its images while it is held. claimed_at: taken out of the queue for the first
    time; leased_at: for the last. began_at: its first image's first pass. refused: why it was not
    accepted. seated: an image of it has had a slot. way_made: slots were cleared for it;
    leaving: its images are asked to leave their own; preemptions: how often they were.
    """

    number: int
    arrival: Arrival
    passes: int
    stamp: float = 0.0
    left: list[int] = field(default_factory=list)
    renders: list[Render] = field(default_factory=list)
    claimed_at: float | None = None
    leased_at: float = 0.0
    began_at: float | None = None
    finished_at: float | None = None
    refused: str | None = None
    seated: bool = False
    way_made: bool = False
    leaving: bool = False
    preemptions: int = 0

    @property
    def all_passes(self) -> int:
        """Of all its images, from their beginning."""
        return self.arrival.images * self.passes

    @property
    def furthest(self) -> float:
        """Share of the passes that its furthest image has had."""
        return 1 - min((render.passes_left for render in self.renders), default=0) / self.passes

    @property
    def wait_seconds(self) -> float | None:
        """From its arrival until a decoder began with it."""
        return None if self.began_at is None else self.began_at - self.arrival.at

    @property
    def turnaround_seconds(self) -> float | None:
        """From its arrival until its last image was drawn."""
        return None if self.finished_at is None else self.finished_at - self.arrival.at


@dataclass(slots=True, eq=False)
class Render:
    """One image of a held job; see the engine's Schedulable. seated: it has a slot, or is
    promised one. seat: which one, from began_at on, None before its first pass there."""

    job: Job
    passes_left: int
    leaving: bool = False
    seated: bool = False
    batch_key: str = BATCH_KEY
    seat: int | None = None
    began_at: float = 0.0
