"""Policies to compare with: Knative's autoscaler, Kubernetes' HPA, Ray Serve's own, a static peak.

They see what they see in their own systems, requests in progress and waiting, and aim at as many a
replica as it has slots. Each keeps its own defaults.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaling.policies.wrappers import Bounded, Stabilised
from autoscaling.policy import Decision, LoadSnapshot, Policy

KNATIVE_TICK_SECONDS = 2.0
HPA_SYNC_SECONDS = 15.0
HPA_TOLERANCE = 0.1
HPA_DOWN_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Requests:
    """A lane's work as a count of requests: one for each picture."""

    picture_seconds: float
    slots: int

    def __call__(self, snapshot: LoadSnapshot) -> float:
        """In progress and waiting. While some wait every slot is taken; of those in progress half
        is left on average."""
        waiting = snapshot.waiting_seconds / self.picture_seconds
        places = snapshot.replicas * self.slots
        running = snapshot.running_seconds / (self.picture_seconds / 2)
        return waiting + (places if waiting else min(places, math.ceil(running)))


class MovingAverage:
    """Over the last `seconds`, of what is shown."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._shown: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def __call__(self, at: float, value: float) -> float:
        self._shown.append((at, value))
        self._sum += value
        while self._shown[0][0] <= at - self._seconds:
            self._sum -= self._shown.popleft()[1]
        return max(0.0, self._sum / len(self._shown))


class Periodic:
    """Asks the policy at most once in `seconds`."""

    def __init__(self, policy: Policy, seconds: float) -> None:
        self._policy, self._seconds = policy, seconds
        self._next = float("-inf")

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        if snapshot.at < self._next:
            return Decision(snapshot.target, "between two looks")
        self._next = snapshot.at + self._seconds
        return self._policy(snapshot)


class KnativeAutoscaler:
    """KPA: concurrency over 60 s, at 70 % of what a replica can hold; in a panic, begun by 200 % of
    what the ready replicas are there for, over 6 s, and upwards only until 60 s after it. Down to
    half at a time. Source: knative/serving, pkg/autoscaler/scaling/autoscaler.go."""

    STABLE_SECONDS, PANIC_SECONDS = 60.0, 6.0
    TARGET_UTILISATION, PANIC_THRESHOLD, MAX_DOWN_RATE = 0.7, 2.0, 2.0

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._target = self.TARGET_UTILISATION * requests.slots
        self._stable, self._panic = (
            MovingAverage(self.STABLE_SECONDS),
            MovingAverage(self.PANIC_SECONDS),
        )
        self._panicked_at: float | None = None
        self._most = 0

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        at, ongoing = snapshot.at, self._requests(snapshot)
        stable = math.ceil(self._stable(at, ongoing) / self._target)
        panic = math.ceil(self._panic(at, ongoing) / self._target)
        ready = max(1, snapshot.replicas)
        if panic / ready >= self.PANIC_THRESHOLD:
            self._panicked_at = at
        elif self._panicked_at is not None and at > self._panicked_at + self.STABLE_SECONDS:
            self._panicked_at, self._most = None, 0
        least = math.floor(snapshot.replicas / self.MAX_DOWN_RATE)
        if self._panicked_at is None:
            return Decision(max(stable, least), "stable")
        self._most = max(self._most, panic, snapshot.target)
        return Decision(self._most, "panic")


class HorizontalPodAutoscaler:
    """HPA v2: replicas times (requests a replica over those aimed at), unless within 10 %; at most
    twice as many, or four more, at a time. From zero as KEDA does it: one, when a request waits."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def __call__(self, snapshot: LoadSnapshot) -> Decision:
        ongoing, now = self._requests(snapshot), snapshot.replicas
        if not now:
            return Decision(max(snapshot.target, ongoing > 0), "from zero")
        ratio = ongoing / (now * self._requests.slots)
        if abs(ratio - 1) <= HPA_TOLERANCE:
            return Decision(snapshot.target, "within tolerance")
        return Decision(min(math.ceil(now * ratio), max(2 * now, now + 4)), f"ratio {ratio:.2f}")


def _knative(requests: Requests, most: int) -> Policy:
    return Periodic(KnativeAutoscaler(requests), KNATIVE_TICK_SECONDS)


def _hpa(requests: Requests, most: int) -> Policy:
    return Periodic(
        Stabilised(HorizontalPodAutoscaler(requests), lambda _: HPA_DOWN_SECONDS), HPA_SYNC_SECONDS
    )


def _static(requests: Requests, most: int) -> Policy:
    return lambda _: Decision(most, "static")


def _ray(requests: Requests, most: int) -> Policy:
    return ray_policy(requests, float(max(requests.slots, 2)))


def ray_policy(requests: Requests, ongoing_per_replica: float, **delays: float) -> Policy:
    """Ray Serve's, without bounds; delays: see RayDefaultPolicy."""
    from autoscaling.simulator.ray_default import RayDefaultPolicy  # Ray takes a second to import

    return RayDefaultPolicy(requests, MovingAverage, ongoing_per_replica, **delays)


BASELINES: Mapping[str, Callable[[Requests, int], Policy]] = {
    "ray-default": _ray,
    "knative": _knative,
    "hpa": _hpa,
    "static": _static,
}


def baseline(name: str, requests: Requests, least: int, most: int) -> Policy:
    """A fresh one by its name, between the same bounds as ours. KeyError for an unknown name."""
    return Bounded(BASELINES[name](requests, most), least, most)
