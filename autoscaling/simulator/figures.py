"""A run in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from autoscaling.simulator.energy import Watts, kwh
from autoscaling.simulator.simulation import SimulationResult
from autoscaling.simulator.workload import SimulatedJob

QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class TierFigures:
    """Of one tier, or of the whole lane."""

    jobs: int
    pictures: int
    refused: dict[str, int]
    unfinished: int
    """Jobs that still waited or ran at the end."""
    waits: tuple[float, ...]
    """Seconds until a decoder began, at QUANTILES; empty when no job was begun."""
    turnarounds: tuple[float, ...]
    """Seconds until the last image was done, at QUANTILES."""
    jain: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """One run."""

    name: str
    hours: float
    tiers: dict[str, TierFigures]
    all: TierFigures
    gpu_hours: float
    """Paid, from asking for a replica until it is gone: starting, drawing and idle together."""
    starting_gpu_hours: float
    drawing_gpu_hours: float
    optimum_gpu_hours: float | None
    """Of the best schedule in hindsight; None where it was not asked for."""
    peak_gpus: int
    direction_changes: int
    failures: int
    failed_starts: int
    kwh: float

    @property
    def idle_gpu_hours(self) -> float:
        """Ready and not drawing."""
        return self.gpu_hours - self.starting_gpu_hours - self.drawing_gpu_hours

    @property
    def over_optimum(self) -> float | None:
        """GPU-hours over those of the optimum."""
        return self.gpu_hours / self.optimum_gpu_hours if self.optimum_gpu_hours else None


def figures(
    name: str, outcome: SimulationResult, watts: Watts, optimum_gpu_hours: float | None = None
) -> Figures:
    """Add it all up."""
    end, replicas = outcome.ended_at, outcome.replicas
    gone = [end if replica.gone_at is None else replica.gone_at for replica in replicas]
    paid = sum(at - replica.asked_at for at, replica in zip(gone, replicas, strict=True))
    ready = sum(
        at - replica.ready_at
        for at, replica in zip(gone, replicas, strict=True)
        if replica.ready_at is not None
    )
    busy = sum(replica.busy_seconds for replica in replicas)
    names = sorted({job.arrival.tier for job in outcome.jobs})
    return Figures(
        name=name,
        hours=end / 3600,
        tiers={
            tier: _tier([j for j in outcome.jobs if j.arrival.tier == tier], outcome.jain.get(tier))
            for tier in names
        },
        all=_tier(outcome.jobs, min(_known(outcome.jain.values()), default=None)),
        gpu_hours=paid / 3600,
        starting_gpu_hours=(paid - ready) / 3600,
        drawing_gpu_hours=busy / 3600,
        optimum_gpu_hours=optimum_gpu_hours,
        peak_gpus=max((s.starting + s.drawing + s.draining for s in outcome.samples), default=0),
        direction_changes=direction_changes([s.target for s in outcome.samples]),
        failures=outcome.failures,
        failed_starts=outcome.failed_starts,
        kwh=kwh(watts, busy, paid - busy),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least value that at least `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def direction_changes(targets: Sequence[int]) -> int:
    """How often a number that went up goes down next, or the other way round."""
    steps = [after > before for before, after in pairwise(targets) if after != before]
    return sum(one != other for one, other in pairwise(steps))


def _tier(jobs: Sequence[SimulatedJob], jain: float | None) -> TierFigures:
    refused = Counter(job.refused for job in jobs if job.refused is not None)
    done = [job for job in jobs if job.finished_at is not None]
    waits = sorted(_known(job.wait_seconds for job in jobs))
    turnarounds = sorted(_known(job.turnaround_seconds for job in done))
    return TierFigures(
        jobs=len(jobs),
        pictures=sum(job.arrival.images for job in done),
        refused=dict(sorted(refused.items())),
        unfinished=len(jobs) - len(done) - refused.total(),
        waits=tuple(quantile(waits, q) for q in QUANTILES) if waits else (),
        turnarounds=tuple(quantile(turnarounds, q) for q in QUANTILES) if turnarounds else (),
        jain=jain,
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
