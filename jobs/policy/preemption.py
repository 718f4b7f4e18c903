"""Which jobs are preempted when every slot is taken. Pure; the ledger marks them, and their holders
learn it with the next heartbeat. A job of a batch, whose share is 0, leaves for any other, whenever
that came, how often it was before, and however far it is.

A job is preempted for one of a tier with a larger share that came after it was claimed: those that
waited before were weighed against it by the claim. No tier is pushed below its share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")

PREEMPTIONS_MAX = 2
SPARED_FROM = 0.75
"""A render that has done this share of its passes soon leaves its slot anyway."""


@dataclass(frozen=True, slots=True)
class Preemptor:
    """A job without a slot, queued or claimed, for which no slot was cleared yet."""

    job_id: str
    tier: str
    images: int
    came_at: float


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A job under lease."""

    job_id: str
    tier: str
    images: int
    claimed_at: float
    mine: bool
    """Held by the dispatcher that asks."""
    ready: bool
    """Mine, and without a slot."""
    progress: float | None
    """Share of the passes done by its furthest rendering image; None: none is rendering."""
    preempted: bool
    """It was already, and has not left yet."""
    preemptions: int


@dataclass(frozen=True, slots=True)
class PreemptionPlan:
    """Which jobs go back to the queue, and for which tier."""

    ready: Mapping[str, str]
    """Jobs that have no slot yet."""
    rendering: Mapping[str, str]
    """Jobs whose slots are cleared."""
    preemptors: frozenset[str]
    """Jobs for which slots were cleared, which happens once."""

    @property
    def preempted(self) -> dict[str, str]:
        """Both kinds."""
        return {**self.ready, **self.rendering}


def preempt(
    shares: Mapping[str, float], preemptors: Sequence[Preemptor], held: Sequence[HeldJob]
) -> PreemptionPlan:
    """Ready jobs of lower-share tiers are preempted first, since they would take the slots that are
    cleared; then for each image of a preemptor one that is rendering, fewest preemptions and least
    progress first. shares: of every tier that is named."""
    total = sum(job.images for job in held)
    left = Counter(dict.fromkeys(shares, 0))
    for job in held:
        left[job.tier] += 0 if job.preempted else job.images

    def may_preempt(to: Preemptor, job: HeldJob) -> bool:
        return (
            not job.preempted
            and shares[job.tier] < shares[to.tier]
            and (job.claimed_at <= to.came_at or not shares[job.tier])
            and left[job.tier] - job.images >= shares[job.tier] * total
        )

    by_share = sorted(preemptors, key=lambda job: -shares[job.tier])
    ready: dict[str, str] = {}
    for to in by_share:
        for job in reversed(held):
            if job.ready and job.job_id not in ready and may_preempt(to, job):
                ready[job.job_id] = to.tier
                left[job.tier] -= job.images
    rendering: dict[str, str] = {}
    served: set[str] = set()
    for to in by_share:
        missing = to.images
        for job in _least_progress_first(held, shares):
            if missing > 0 and job.job_id not in rendering and may_preempt(to, job):
                rendering[job.job_id] = to.tier
                left[job.tier] -= job.images
                missing -= job.images
                served.add(to.job_id)
    return PreemptionPlan(ready, rendering, frozenset(served))


def _least_progress_first(held: Iterable[HeldJob], shares: Mapping[str, float]) -> list[HeldJob]:
    """Those whose slots may be cleared, of batches first; then the asking dispatcher's own, which
    hears at once."""
    slots = [
        (shares[job.tier] > 0, not job.mine, job.preemptions, job.progress, index, job)
        for index, job in enumerate(held)
        if job.progress is not None and not job.ready and _may_leave(job, shares[job.tier])
    ]
    return [job for *_, job in sorted(slots, key=lambda slot: slot[:5])]


def _may_leave(job: HeldJob, share: float) -> bool:
    spared = (job.progress or 0.0) >= SPARED_FROM or job.preemptions >= PREEMPTIONS_MAX
    return not spared or not share


def to_recall(waiting: Mapping[K, tuple[str, float]], cleared: Iterable[str]) -> list[K]:
    """For cleared slots at replicas where no image waits, those that have waited longest at others.

    waiting: at which replica, and since when. cleared: a replica for each slot."""
    slots = Counter(cleared)
    elsewhere = sorted(
        (k for k in waiting if waiting[k][0] not in slots), key=lambda k: waiting[k][1]
    )
    unclaimed = slots - Counter(replica for replica, _ in waiting.values())
    return elsewhere[: unclaimed.total()]
