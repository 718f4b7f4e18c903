"""What was used, and what jobs add to it when they end. Pure.

Kept by hour, tenant, model, size and source, for longer than the jobs themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jobs.job import Job, JobState, RenderState

HOUR_SECONDS, DAY_SECONDS = 3_600, 86_400
PARTS = 8
"""Rows of the same hour and tenant: processes that add to one of them at the same time wait for
each other's commit, and each has one of its own as long as they are few."""
GENERATION, EDIT = "image.generation", "image.edit"

UsageKey = tuple[int, str, str, str, str]
"""Hour (its beginning, seconds since the epoch), tenant, model, size (1024x1024), source."""


@dataclass(frozen=True, slots=True)
class Used:
    """An amount."""

    images: int = 0
    """That were delivered."""
    requests: int = 0
    """Jobs with a picture."""
    gpu_seconds: float = 0.0
    """Of all images, however they ended, as far as it is known."""
    joules: float = 0.0
    """0.0 is also unknown."""

    def __add__(self, other: Used) -> Used:
        return Used(
            self.images + other.images,
            self.requests + other.requests,
            self.gpu_seconds + other.gpu_seconds,
            self.joules + other.joules,
        )


@dataclass(frozen=True, slots=True)
class UsedBy:
    """An amount, and of what. None: of all."""

    used: Used
    start: int | None = None
    """Of its hour or day; seconds since the epoch."""
    tenant: str | None = None
    model: str | None = None
    size: str | None = None
    source: str | None = None


GroupBy = Literal["tenant", "model", "size", "source"]


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """What is added up: from `start` up to `end`, both at full hours. by: what has sums of its own.
    only: what counts, by field; what is not in it is anything. bucket_seconds: an hour or a day,
    each with its own sums, oldest first; None: all together. most: what comes first. limit: of
    sums."""

    start: float
    end: float
    by: frozenset[GroupBy] = frozenset()
    only: Mapping[GroupBy, Sequence[str]] = field(default_factory=dict)
    bucket_seconds: int | None = None
    most: Literal["gpu_seconds", "images"] = "gpu_seconds"
    limit: int = 100_000


def use_of_ended(moves: Sequence[tuple[Job, Job]], now: float) -> dict[UsageKey, Used]:
    """What these moves of jobs, from before to after, add at that time: a job counts, with all its
    images, when it ends, and so once."""
    hour = int(now // HOUR_SECONDS) * HOUR_SECONDS
    found: dict[UsageKey, Used] = {}
    for before, after in moves:
        used = _used(after) if after.ended and not before.ended else Used()
        if used != Used():
            request = after.request
            size = f"{request.width}x{request.height}"
            source = GENERATION if request.source is None else EDIT
            key = (hour, request.tenant, request.model, size, source)
            found[key] = found.get(key, Used()) + used
    return found


def _used(job: Job) -> Used:
    return Used(
        images=sum(render.state is RenderState.SUCCEEDED for render in job.renders),
        requests=int(job.state is JobState.SUCCEEDED),
        gpu_seconds=sum(render.gpu_seconds or 0.0 for render in job.renders),
        joules=sum(render.joules or 0.0 for render in job.renders),
    )
