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
    """A request."""

    at: float
    """Second of the simulated clock, which begins at midnight."""
    tenant: str = "default"
    tier: str = "free"
    images: int = 1
    passes: int | None = None
    """Of each image; None: as many as the lane's own."""
    newcomer: bool = False
    """The tenant never asked before."""


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
    """Everything of a lane that decides how long jobs wait."""

    cost: PassCost
    """Of one pass."""
    slots: int = 4
    passes: int = 12
    """Of an image."""
    tiers: Mapping[str, Tier] = field(default_factory=lambda: {"free": Tier()})
    least_share: float = LEAST_SHARE
    min_replicas: int = 1
    max_replicas: int = 1
    replicas: int = 1
    """That draw at the start."""
    cold_start: ColdStart = ColdStart(10.0)
    nodes: int | None = None
    """Replicas that find a node, whatever is asked for; None: all."""
    grace_seconds: float = 30.0
    start_failures: float = 0.0
    """Share of starts that fail, at their end, and are tried again."""
    failures_per_hour: float = 0.0
    """Of one drawing replica."""
    dispatch_seconds: float = 0.005
    """From a free slot, or the arrival of a job, until the job has joined."""
    ready_images: int = 2
    """That are claimed ahead of a slot."""
    headroom: int = 0
    """As many more of them for each drawing replica."""
    tick_seconds: float = 1.0
    thresholds: Sequence[Threshold] = ()
    """What tightens the tiers while the lane is hot."""
    late_seconds: float = 120.0
    """See ColdStarts."""
    deadline_seconds: float = 86_400.0
    """How long the simulation goes on after the last arrival."""

    @property
    def row_seconds(self) -> float:
        """GPU-seconds of one pass of one image, in a full batch."""
        return self.cost.seconds(self.slots) / self.slots

    @property
    def picture_seconds(self) -> float:
        """GPU-seconds of one image, in a full batch."""
        return self.passes * self.row_seconds


@dataclass(slots=True, eq=False)
class SimulatedJob:
    """A request on its way. Times are None until they come."""

    number: int
    arrival: Arrival
    passes: int
    stamp: float = 0.0
    """Its place in the fair queue."""
    left: list[int] = field(default_factory=list)
    """Passes left of each image when it was last in the queue."""
    renders: list[SimulatedRender] = field(default_factory=list)
    """Its images while it is held."""
    leased_at: float = 0.0
    """When it was claimed last."""
    began_at: float | None = None
    """Its first image's first pass."""
    finished_at: float | None = None
    refused: str | None = None
    """Why it was not accepted."""
    has_begun: bool = False
    """An image of it has had a slot."""
    preempted: bool = False
    """Its images leave their slots after their passes."""
    preemptions: int = 0
    slots_cleared: bool = False
    """Other jobs were preempted for it."""

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
class SimulatedRender:
    """One image of a held job, in the batch of the engine's scheduler."""

    job: SimulatedJob
    passes_left: int
    leaving: bool = False
    has_slot: bool = False
    """It has a slot, or is promised one."""
    batch_key: str = BATCH_KEY
    slot: int | None = None
    """Which one, from began_at on; None before its first pass there."""
    began_at: float = 0.0
