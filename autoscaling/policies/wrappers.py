"""Wrappers around a policy: bounds, step limits, a stabilisation window, and bursts."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from autoscaling.policies.forecast import Forecast
from autoscaling.policies.idle_gaps import IdleGaps
from autoscaling.policy import Cause, Decision, LoadSnapshot, Policy

LIVE_SECONDS = 300.0
"""Over which the work that arrives is smoothed, where batches are drawn beside it."""
MUCH_LESS = 1 / 3
"""Of the replicas, and more than one: from there on noise moves what is needed, and no load has
ended."""


class Bounded:
    """Never fewer than `least` replicas, never more than `most`."""

    def __init__(self, policy: Policy, least: int, most: int) -> None:
        self._policy, self._least, self._most = policy, least, most

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        decision = self._policy(snapshot)
        if decision.replicas < self._least:
            return Decision(self._least, f"min_replicas; {decision.reason}", Cause.MIN)
        if decision.replicas > self._most:
            return Decision(self._most, f"max_replicas; {decision.reason}", Cause.MAX)
        return decision


class WithBatches:
    """And as many replicas as batches need within their windows, beside what arrives: at least one
    while there is any. What the policy asks for has idle slots, which batches fill, so that only
    the larger of both counts."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._arriving = Forecast(LIVE_SECONDS)

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        decision = self._policy(snapshot)
        self._arriving.observe(snapshot.at, snapshot.arrival_rate)
        if snapshot.batch_rate <= 0:
            return decision
        rate = (snapshot.batch_rate + self._arriving.ahead(0)) / snapshot.render_rate
        if (needed := max(1, math.ceil(rate))) <= decision.replicas:
            return decision
        return Decision(
            needed, f"batches need {snapshot.batch_rate:.3g} of work a second", Cause.BATCH
        )


class Stabilised:
    """Gives back no replica that was needed within the last `seconds`, a number that follows from
    the snapshot; once nothing waits for a slot and far fewer are needed, within so much of
    that as has paid lately."""

    def __init__(self, policy: Policy, seconds: Callable[[LoadSnapshot], float]) -> None:
        self._policy, self._seconds = policy, seconds
        self._gaps = IdleGaps()
        self._highest: deque[tuple[float, Decision]] = deque()

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        decision = self._policy(snapshot)
        longest = self._seconds(snapshot)
        needed, cold_start = decision.replicas, snapshot.cold_start_seconds
        self._gaps.observe(snapshot.at, needed, snapshot.target, longest, cold_start)
        waits = snapshot.waiting_seconds > 0 or snapshot.unbegun_seconds > 0
        noise = needed > max(1, MUCH_LESS * snapshot.target)
        kept_seconds = longest if waits or noise else self._gaps.keep_seconds(longest)
        past = self._highest
        while past and past[-1][1].replicas <= decision.replicas:
            past.pop()
        past.append((snapshot.at, decision))
        while past[0][0] < snapshot.at - longest:
            past.popleft()
        since = snapshot.at - kept_seconds
        highest = next(one.replicas for at, one in past if at >= since)
        kept = min(highest, snapshot.target)
        if kept > decision.replicas:
            return Decision(kept, f"needed a moment ago; {decision.reason}", Cause.KEPT)
        return decision


class Stepped:
    """At most `up` more and `down` fewer replicas within `seconds`; None: no limit."""

    def __init__(self, policy: Policy, up: int | None, down: int | None, seconds: float) -> None:
        self._policy, self._up, self._down, self._seconds = policy, up, down, seconds
        self._targets: deque[tuple[float, int]] = deque()

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        decision = self._policy(snapshot)
        past = self._targets
        past.append((snapshot.at, snapshot.target))
        while past[0][0] < snapshot.at - self._seconds:
            past.popleft()
        least, most = sorted((snapshot.target, decision.replicas))
        if self._up is not None:
            most = max(snapshot.target, self._up + min(target for _, target in past))
        if self._down is not None:
            least = min(snapshot.target, max(target for _, target in past) - self._down)
        held = max(least, min(decision.replicas, most))
        if held == decision.replicas:
            return decision
        return Decision(held, f"step; {decision.reason}", Cause.STEP)


class Panicking:
    """In a burst: straight to the need, past every step limit, and nothing is given back.

    A burst is work that arrives at `factor` times what the replicas draw; it lasts until `seconds`
    after the last of it. need: of the policy that `calm` holds back."""

    def __init__(self, calm: Policy, need: Policy, factor: float, seconds: float) -> None:
        self._calm, self._need = calm, need
        self._factor, self._seconds = factor, seconds
        self._until = float("-inf")

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        calm = self._calm(snapshot)
        if snapshot.arrival_rate > self._factor * snapshot.target * snapshot.render_rate:
            self._until = snapshot.at + self._seconds
        if snapshot.at > self._until:
            return calm
        need = self._need(snapshot)
        if max(calm.replicas, need.replicas) >= snapshot.target:
            return need if need.replicas > calm.replicas else calm
        return Decision(snapshot.target, f"a burst; {calm.reason}", Cause.BURST)
