"""Whose turn it is between tiers. Pure: fairness between tiers is decided here and nowhere else;
inside a tier the ledger orders by virtual finish time, which it stamps at submit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.tiers import DEFAULT_TIER, Tier


@dataclass(frozen=True, slots=True)
class Head:
    """The first job of a tier's queue. vft: virtual finish time; cost: predicted GPU-seconds."""

    job_id: str
    vft: float
    cost_seconds: float


@dataclass(frozen=True, slots=True)
class FairQueue:
    """Weighted shares of what was served, and a share for everybody.

    least_share: no tier with work gets less of the lane than this, however small its weight.
    """

    tiers: Mapping[str, Tier]
    least_share: float = 0.1

    def shares(self, waiting: tuple[str, ...]) -> dict[str, float]:
        """Share of the lane of each tier that has work; they sum to 1."""
        weights = {tier: self.tiers.get(tier, DEFAULT_TIER).weight for tier in waiting}
        total = sum(weights.values())
        least = min(self.least_share, 1 / max(1, len(waiting)))
        raised = {tier: max(weight / total, least) for tier, weight in weights.items()}
        spare = 1 - least * len(waiting)
        above = sum(share - least for share in raised.values())
        return {
            tier: least + ((share - least) * spare / above if above > 0 else 0.0)
            for tier, share in raised.items()
        }

    def pick(self, heads_per_tier: Mapping[str, Head], served: Mapping[str, float]) -> str:
        """The tier whose head goes next: the one furthest behind its share.

        served: GPU-seconds lately served per tier. Ties go to the larger share, then by name.
        ValueError when nobody waits.
        """
        if not heads_per_tier:
            raise ValueError("no tier has work")
        shares = self.shares(tuple(heads_per_tier))
        return min(
            heads_per_tier,
            key=lambda tier: (served.get(tier, 0.0) / shares[tier], -shares[tier], tier),
        )
