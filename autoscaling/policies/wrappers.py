"""Wrappers around a policy: bounds, step limits, a stabilisation window, and bursts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from autoscaling.policy import Decision, LoadSnapshot, Policy


class Bounded:
    """Never fewer than `least` replicas, never more than `most`."""

    def __init__(self, policy: Policy, least: int, most: int) -> None:
        self._policy, self._least, self._most = policy, least, most

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        decision = self._policy(snapshot)
        if decision.replicas < self._least:
            return Decision(self._least, f"min_replicas; {decision.reason}")
        if decision.replicas > self._most:
            return Decision(self._most, f"max_replicas; {decision.reason}")
        return decision


class Stabilised:
    """Gives back no replica that was needed within the last `seconds`, a number or what follows
    from the snapshot.

    With one cold start it is ski rental: keeping an idle replica for as long as it would take to
    start another never costs more than twice what the best choice in hindsight would have."""

    def __init__(self, policy: Policy, seconds: Callable[[LoadSnapshot], float]) -> None:
        self._policy, self._seconds = policy, seconds
        self._highest: deque[tuple[float, Decision]] = deque()

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        decision = self._policy(snapshot)
        past = self._highest
        while past and past[-1][1].replicas <= decision.replicas:
            past.pop()
        past.append((snapshot.at, decision))
        while past[0][0] < snapshot.at - self._seconds(snapshot):
            past.popleft()
        kept = min(past[0][1].replicas, snapshot.target)
        if kept > decision.replicas:
            return Decision(kept, f"needed a moment ago; {decision.reason}")
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
        most = least = decision.replicas
        if self._up is not None:
            most = max(snapshot.target, self._up + min(target for _, target in past))
        if self._down is not None:
            least = min(snapshot.target, max(target for _, target in past) - self._down)
        held = max(least, min(decision.replicas, most))
        return decision if held == decision.replicas else Decision(held, f"step; {decision.reason}")


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
        return Decision(snapshot.target, f"a burst; {calm.reason}")
