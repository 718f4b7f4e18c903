"""As many replicas as let everybody begin within the wait that the tier was promised.

A tier may wait W seconds and its first job has waited for a: what is in its queue now, and what
goes before it by the other tiers' shares, is drawn within W - a. So nobody is late, and in steady
flow the wait settles near W / 2 with every replica busy: a standing queue keeps GPUs full, where an
empty one would mean that some are idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from autoscaling.policies.forecast import Forecast
from autoscaling.policy import Decision, LoadSnapshot
from jobs.fair_queue import FairQueue

LEAST_LEFT = 0.6
"""Of a wait target is always left: one job that is late already, or came back to the queue, is no
reason to ask for any number of replicas."""
EASE = 0.45
"""Replicas are given back once they would not be missed even if everybody had only this share of
the wait target. Between that and the target nothing changes, so that noise moves nothing."""

GRACE_SECONDS = 30.0
"""So long a replica that is given back may go on with what it holds; while more is held than all
replicas draw in that, none is."""


class DrainTarget:
    """wait_of: seconds that 95 % of a tier's jobs may wait. fair_queue: the tiers' shares.
    horizon_seconds: how far ahead arrivals count; at least one cold start always does."""

    def __init__(
        self,
        wait_of: Callable[[str], float],
        fair_queue: FairQueue,
        forecast: Forecast,
        horizon_seconds: float = 0.0,
    ) -> None:
        self._wait_of = wait_of
        self._fair_queue = fair_queue
        self._forecast = forecast
        self._horizon_seconds = horizon_seconds

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        self._forecast.observe(snapshot.at, snapshot.arrival_rate)
        wanted = self.need(snapshot)
        if wanted.replicas > snapshot.target:
            return wanted
        enough = self.need(snapshot, EASE)
        busy = math.ceil(snapshot.running_seconds / snapshot.render_rate / GRACE_SECONDS)
        replicas = max(enough.replicas, busy)
        if replicas < snapshot.target:
            return Decision(replicas, f"{replicas} are enough {enough.reason}")
        return Decision(snapshot.target, f"enough {wanted.reason}")

    def need(self, snapshot: LoadSnapshot, ease: float = 1.0) -> Decision:
        """Replicas that it takes now, and for whom. ease: share of each wait target to count on.
        Remembers nothing."""
        horizon = max(self._horizon_seconds, snapshot.cold_start_seconds)
        coming = self._forecast.ahead(horizon) * horizon
        waiting = snapshot.waiting_seconds
        if waiting <= 0:
            wait = ease * self._wait_of("")
            need = coming / snapshot.render_rate / (wait + horizon)
            idle = snapshot.running_seconds <= 0 and snapshot.arrival_rate <= 0
            return Decision(int(need) if idle else max(1, math.ceil(need)), "for what is coming")
        needs = {
            tier: _replicas(
                snapshot,
                work=ahead + ahead / waiting * coming,
                within=self._left(snapshot, tier, ease) + horizon,
            )
            for tier, ahead in self._work_before_last(snapshot).items()
        }
        tier = max(needs, key=lambda name: (needs[name], name))
        return Decision(math.ceil(needs[tier]), f"for tier {tier} within {self._wait_of(tier):g} s")

    def _left(self, snapshot: LoadSnapshot, tier: str, ease: float) -> float:
        """Seconds until the patience of the tier's first job ends."""
        wait = ease * self._wait_of(tier)
        return max(wait - snapshot.waiting[tier].oldest_seconds, LEAST_LEFT * wait)

    def _work_before_last(self, snapshot: LoadSnapshot) -> dict[str, float]:
        """GPU-seconds that are drawn by the time a tier's last job has been, by tier: the tier's
        own, and what the others' shares take meanwhile, as far as they have work."""
        work = {name: tier.seconds for name, tier in snapshot.waiting.items() if tier.seconds > 0}
        share = self._fair_queue.shares(work)
        return {
            tier: sum(min(work[other], own * share[other] / share[tier]) for other in work)
            for tier, own in work.items()
        }


def _replicas(snapshot: LoadSnapshot, work: float, within: float) -> float:
    """Replicas that draw `work` GPU-seconds within so many seconds, of which those that are yet to
    be asked for miss one cold start. `within` is longer than that."""
    work /= snapshot.render_rate
    asked = snapshot.target
    if work <= asked * within:
        return work / within
    return asked + (work - asked * within) / (within - snapshot.cold_start_seconds)
