"""Which job is next. Pure: fairness is decided here and nowhere else.

Inside a tier the ledger orders by a stamp that a job gets once, at submit (`stamp`): its virtual
finish time, the moment at which it would be done if all tenants were drawn at the same time, each
at the same speed. Between tiers `pick` does the same with the tiers' shares, a job at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobs.request import BATCH_TIER
from jobs.tiers import DEFAULT_TIER, Tier

LEAST_SHARE = 0.1
AGEING = 0.01
"""Virtual seconds by which newcomers fall behind waiting jobs, in every second."""


def aged(vtime: float, seconds: float) -> float:
    """A tier's virtual time `seconds` after it was `vtime`, without a claim in between.

    So no job waits for ever behind newcomers, however many arrive between two claims: in the end
    those get later stamps. Slow enough not to favour one tenant's many jobs."""
    return vtime + AGEING * max(0.0, seconds)


def stamp(vtime: float, last: float | None, cost_seconds: float) -> float:
    """The virtual finish time of a tenant's next job. last: that of the tenant's job before it.

    A busy tenant's job follows its last one; an idle one starts now, so that idling earns no
    credit. The ledger does the same in SQL."""
    return max(vtime, vtime if last is None else last) + cost_seconds


@dataclass(frozen=True, slots=True)
class Head:
    """The first job of a tier's queue. vft: virtual finish time; cost: predicted GPU-seconds."""

    job_id: str
    vft: float
    cost_seconds: float


@dataclass(frozen=True, slots=True)
class Served:
    """What a tier was given, in virtual seconds (GPU-seconds over its share): when its last job
    began, and when that job has had its due."""

    began: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True, slots=True)
class FairQueue:
    """Weighted shares of what is served, and a least share for each tier.

    least_share: no tier with work gets less of the lane than this, however small its weight.
    """

    tiers: Mapping[str, Tier]
    least_share: float = LEAST_SHARE

    def shares(self, waiting: Iterable[str]) -> dict[str, float]:
        """Share of the lane of each tier that has work; they sum to 1. Batches have what no tier
        wants: nothing, or all."""
        names = set(waiting)
        live = self._live_shares(names - {BATCH_TIER})
        return live if BATCH_TIER not in names else {**live, BATCH_TIER: 0.0 if live else 1.0}

    def _live_shares(self, waiting: Iterable[str]) -> dict[str, float]:
        weights = {tier: self.tiers.get(tier, DEFAULT_TIER).weight for tier in waiting}
        total = sum(weights.values())
        least = min(self.least_share, 1 / max(1, len(weights)))
        raised = {tier: max(weight / total, least) for tier, weight in weights.items()}
        spare = 1 - least * len(weights)
        above = sum(share - least for share in raised.values())
        return {
            tier: least + ((share - least) * spare / above if above > 0 else 0.0)
            for tier, share in raised.items()
        }

    def pick(self, heads_per_tier: Mapping[str, Head], served: Mapping[str, Served]) -> str:
        """The tier whose head goes next: the one whose turn began first in virtual time.

        A tier that had no work begins now: what it left is not kept for it, and what others took
        of it is not held against them. Ties go to the larger share, then by name. While a tier
        waits, the others get no more than its last job's cost times their shares over its own,
        and a job each. Batches go when no tier waits. ValueError when nothing has work.
        """
        if not heads_per_tier:
            raise ValueError("no tier has work")
        live = heads_per_tier.keys() - {BATCH_TIER}
        if not live:
            return BATCH_TIER
        shares = self._all_shares(heads_per_tier)
        return min(live, key=lambda tier: (_begins(tier, served), -shares[tier], tier))

    def after(
        self, tier: str, heads_per_tier: Mapping[str, Head], served: Mapping[str, Served]
    ) -> Served:
        """What `tier` has been given once its head is taken. One that was taken before and came
        back costs a turn like any other: what it took is forgotten with the tier's next idling,
        and a tier cannot get beyond its share by being preempted."""
        began = _begins(tier, served)
        if tier == BATCH_TIER:  # it takes nothing of what tiers share
            return Served(began, began)
        share = self._all_shares(heads_per_tier)[tier]
        return Served(began, began + heads_per_tier[tier].cost_seconds / share)

    def _all_shares(self, heads_per_tier: Mapping[str, Head]) -> dict[str, float]:
        """Also of the tiers that have nothing to do, so that virtual time does not jump when one
        comes or goes. Only their proportions matter."""
        return self.shares({**self.tiers, **heads_per_tier})


def _begins(tier: str, served: Mapping[str, Served]) -> float:
    now = max((given.began for given in served.values()), default=0.0)
    return max(now, served[tier].ended if tier in served else now)
