"""Who gives way to whom when every slot is taken. Pure; the ledger marks what comes out, and the
holders learn it with their next heartbeat.

A job gives way to one of a tier with a larger share that came after it was claimed: those that
were there already have been weighed against it by the claim. No tier is pushed below its share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

K = TypeVar("K")

PREEMPTIONS_MAX = 2
SPARED_FROM = 0.75
"""A render that has done this share of its passes is soon out of the way by itself."""


@dataclass(frozen=True, slots=True)
class Wanting:
    """A job that waits, in the queue or claimed and without a slot."""

    job_id: str
    tier: str
    images: int
    came_at: float


@dataclass(frozen=True, slots=True)
class Holding:
    """A job under lease. mine: held by the one who asks. shelved: mine, and without a slot.
    drawn: share of the passes done by its furthest image that is being drawn, None: none is.
    leaving: it was asked to give way already. preemptions: how often it was."""

    job_id: str
    tier: str
    images: int
    claimed_at: float
    mine: bool
    shelved: bool
    drawn: float | None
    leaving: bool
    preemptions: int


@dataclass(frozen=True, slots=True)
class GivingWay:
    """shelved, drawn: which jobs go back to the queue, and for the sake of which tier.
    served: jobs for which slots were cleared, once and for all."""

    shelved: Mapping[str, str]
    drawn: Mapping[str, str]
    served: frozenset[str]

    @property
    def leaving(self) -> dict[str, str]:
        """All who leave."""
        return {**self.shelved, **self.drawn}


def give_way(
    shares: Mapping[str, float], wanting: Sequence[Wanting], holding: Sequence[Holding]
) -> GivingWay:
    """Everybody on the shelf steps back for a job of a larger tier, or would take the slots that
    are cleared for it; and for each of its images somebody who is being drawn leaves, the one who
    was asked least often and has got least far first.

    shares: of every tier that is named. Whoever is in `wanting` has had no slot cleared yet.
    """
    total = sum(job.images for job in holding)
    left = Counter(dict.fromkeys(shares, 0))
    for job in holding:
        left[job.tier] += 0 if job.leaving else job.images

    def may_leave(job: Holding, to: Wanting) -> bool:
        return (
            not job.leaving
            and shares[job.tier] < shares[to.tier]
            and job.claimed_at <= to.came_at
            and left[job.tier] - job.images >= shares[job.tier] * total
        )

    by_share = sorted(wanting, key=lambda job: -shares[job.tier])
    shelved: dict[str, str] = {}
    for to in by_share:
        for job in reversed(holding):
            if job.shelved and job.job_id not in shelved and may_leave(job, to):
                shelved[job.job_id] = to.tier
                left[job.tier] -= job.images
    drawn: dict[str, str] = {}
    served: set[str] = set()
    for to in by_share:
        missing = to.images
        for job in _least_far_first(holding):
            if missing > 0 and job.job_id not in drawn and may_leave(job, to):
                drawn[job.job_id] = to.tier
                left[job.tier] -= job.images
                missing -= job.images
                served.add(to.job_id)
    return GivingWay(shelved, drawn, frozenset(served))


def _least_far_first(holding: Iterable[Holding]) -> list[Holding]:
    """Those that may be taken from their slots; own ones first, since they hear it at once."""
    slots = [
        (not job.mine, job.preemptions, job.drawn, index, job)
        for index, job in enumerate(holding)
        if job.drawn is not None
        and job.drawn < SPARED_FROM
        and job.preemptions < PREEMPTIONS_MAX
        and not job.shelved
    ]
    return [job for *_, job in sorted(slots, key=lambda slot: slot[:4])]


def called_back(waiting: Mapping[K, tuple[str, float]], cleared: Iterable[str]) -> list[K]:
    """Who comes to slots that nobody waits for where they were cleared: those that have waited
    longest at other replicas. waiting: at which, and since when. cleared: a replica for each slot.
    """
    slots = Counter(cleared)
    elsewhere = sorted(
        (k for k in waiting if waiting[k][0] not in slots), key=lambda k: waiting[k][1]
    )
    unclaimed = slots - Counter(replica for replica, _ in waiting.values())
    return elsewhere[: unclaimed.total()]
