"""As many replicas as let every job begin within the wait that its tier was promised.

A tier may wait W seconds and its first job has waited for a: what is in its queue now, and what
goes before it by the other tiers' shares, is drawn within W - a. So no job is late, and in steady
flow the wait settles near W / 2 with every replica busy: a standing queue keeps GPUs full, where an
empty one would mean that some are idle. While the queues are empty, what waits is
what dispatchers hold ahead of slots.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping

from autoscaling.policies.forecast import Forecast
from autoscaling.policies.promise import Promise
from autoscaling.policy import ARRIVAL_WINDOW_SECONDS, Cause, Decision, LoadSnapshot, TierLoad
from jobs.policy.fair_queue import FairQueue

LEAST_LEFT = 0.65
"""Of a wait target is always left: one job that is late already, or came back to the queue, is no
reason to ask for any number of replicas."""
EASE = 0.35
"""Replicas are given back once they would not be missed even with this share of the wait
target. Between that and the target nothing changes, so that noise moves nothing."""

EXPECTED = 0.8
"""Share of what other tiers are expected to get meanwhile that is asked for: rates are noisy, and
the rest shows in the queue in time. Before a replica is given back all of it counts."""
GRACE_SECONDS = 30.0
"""How long a replica that is given back may go on with what it holds; none is while more is held
than all replicas draw in that."""


class Starting:
    """The replicas that were asked for and do not draw yet, by when they were asked for."""

    def __init__(self) -> None:
        self._asked: deque[tuple[float, int]] = deque()
        self._target: int | None = None

    def observe(self, at: float, target: int, drawing: int) -> None:
        """Those that were asked for before the first call are taken to start now and then."""
        before, self._target = self._target, target
        if before is not None and target > before:
            self._asked.append((at, target - before))
        stopped = max(0, (before or 0) - target)
        while stopped and self._asked:  # the newest first
            asked_at, count = self._asked.pop()
            if count > stopped:
                self._asked.append((asked_at, count - stopped))
            stopped = max(0, stopped - count)
        came = sum(count for _, count in self._asked) - max(0, target - drawing)
        while came > 0:  # the oldest first
            asked_at, count = self._asked.popleft()
            if count > came:
                self._asked.appendleft((asked_at, count - came))
            came -= count

    def left(self, at: float, cold_start_seconds: float) -> list[tuple[int, float]]:
        """How many, and the seconds until they draw."""
        return [
            (count, min(max(0.0, asked_at + cold_start_seconds - at), cold_start_seconds))
            for asked_at, count in self._asked
        ]


class DrainTarget:
    """wait_of: seconds that 95 % of a tier's jobs may wait. fair_queue: the tiers' shares.
    smoothing_seconds: of rates; what waits in a tier came while its first job waited, which says
    how much of the lane's rate is the tier's own, and how much of it others get meanwhile.
    horizon_seconds: how far ahead arrivals count; at least one cold start always does."""

    def __init__(
        self,
        wait_of: Callable[[str], float],
        fair_queue: FairQueue,
        smoothing_seconds: float = 30.0,
        horizon_seconds: float = 0.0,
    ) -> None:
        self._wait_of = wait_of
        self._fair_queue = fair_queue
        self._forecast = Forecast(smoothing_seconds)
        self._own = defaultdict[str, Forecast](lambda: Forecast(smoothing_seconds))
        self._horizon_seconds = horizon_seconds
        self._starting = Starting()
        self._promises = defaultdict[str, Promise](Promise)

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        self._starting.observe(snapshot.at, snapshot.target, snapshot.replicas)
        self._forecast.observe(snapshot.at, snapshot.arrival_rate)
        for name, tier in snapshot.waiting.items():
            came_in = max(tier.oldest_seconds, ARRIVAL_WINDOW_SECONDS)
            self._own[name].observe(snapshot.at, tier.seconds / came_in)
        self._see_waits(snapshot)
        wanted = self.need(snapshot)
        if wanted.replicas > snapshot.target:
            return wanted
        enough = self.need(snapshot, easy=True)
        busy = math.ceil(snapshot.running_seconds / snapshot.render_rate / GRACE_SECONDS)
        replicas = max(enough.replicas, busy)
        if replicas < snapshot.target:
            return Decision(replicas, f"{replicas} are enough {enough.reason}", Cause.ENOUGH)
        return Decision(snapshot.target, f"enough {wanted.reason}", Cause.ENOUGH)

    def _see_waits(self, snapshot: LoadSnapshot) -> None:
        """Only while something waits or is held for a slot: an idle lane teaches nothing."""
        busy = snapshot.waiting_seconds > 0 or snapshot.unbegun_seconds > 0
        for name in {*self._promises, *snapshot.waiting, ""} if busy else self._promises:
            load = snapshot.waiting.get(name)
            self._promises[name].observe(snapshot.at, load, self._wait_of(name), busy)

    def _planned(self, tier: str) -> float:
        """Seconds of wait to plan with."""
        return self._wait_of(tier) * self._promises[tier].scale

    def need(self, snapshot: LoadSnapshot, easy: bool = False) -> Decision:
        """Replicas that it takes now, and for which tier. easy: with EASE. Remembers nothing."""
        ease, expected = (EASE, 1.0) if easy else (1.0, EXPECTED)
        horizon = max(self._horizon_seconds, snapshot.cold_start_seconds)
        rate = self._forecast.ahead(horizon)
        if snapshot.waiting_seconds <= 0:
            wait = ease * self._planned("")
            work = snapshot.unbegun_seconds + rate * horizon
            need = work / snapshot.render_rate / (wait + horizon)
            idle = snapshot.running_seconds <= 0 and snapshot.arrival_rate <= 0
            return Decision(int(need) if idle else max(1, math.ceil(need)), "for what is coming")
        shares = self._fair_queue.shares({*self._fair_queue.tiers, *snapshot.waiting})
        needs = dict[str, float]()
        for tier, load in snapshot.waiting.items():
            within = self._left(load, tier, ease) + horizon
            others_rate = max(0.0, rate - self._own[tier].ahead(0)) if shares[tier] < 1 else 0.0
            own = load.seconds + (rate - others_rate) * horizon
            work = own + _passing(snapshot, tier, own, shares, expected * others_rate * within)
            needs[tier] = self._replicas(snapshot, work, within)
        tier = max(needs, key=lambda name: (needs[name], name))
        return Decision(math.ceil(needs[tier]), f"for tier {tier} within {self._wait_of(tier):g} s")

    def _replicas(self, snapshot: LoadSnapshot, work: float, within: float) -> float:
        """Replicas that draw `work` GPU-seconds within so many seconds, of which those that start
        miss what is left of their cold start, and those that are yet to be asked for all of it.
        `within` is longer than that."""
        work /= snapshot.render_rate
        starting = self._starting.left(snapshot.at, snapshot.cold_start_seconds)
        drawing = max(0, snapshot.target - sum(count for count, _ in starting))
        needed = 0.0
        for count, left in [(drawing, 0.0), *starting]:
            if work <= count * (within - left):
                return needed + work / (within - left)
            needed, work = needed + count, work - count * (within - left)
        return needed + work / (within - snapshot.cold_start_seconds)

    def _left(self, load: TierLoad, tier: str, ease: float) -> float:
        """Seconds until the patience of the tier's first job ends."""
        wait = ease * self._planned(tier)
        return max(wait - load.oldest_seconds, LEAST_LEFT * wait)


def _passing(
    snapshot: LoadSnapshot, tier: str, own: float, shares: Mapping[str, float], coming: float
) -> float:
    """GPU-seconds of other tiers that are drawn before `own` of this one has been: what waits there
    and what comes meanwhile, as far as their shares let it pass."""
    ahead = {name: own * share / shares[tier] for name, share in shares.items() if name != tier}
    queued = sum(
        min(load.seconds, ahead[name]) for name, load in snapshot.waiting.items() if name != tier
    )
    return min(queued + coming, sum(ahead.values()))
