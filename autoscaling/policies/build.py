"""From numbers to a policy: the one place that knows how the parts are put together."""

from __future__ import annotations

from autoscaling.policies.drain import DrainTarget
from autoscaling.policies.numbers import PolicyNumbers
from autoscaling.policies.ongoing import OngoingRequests
from autoscaling.policies.wrappers import Bounded, Panicking, Stabilised, Stepped, WithBatches
from autoscaling.policy import Cause, Decision, LoadSnapshot, Policy
from jobs.policy.fair_queue import FairQueue


def build_policy(numbers: PolicyNumbers, fair_queue: FairQueue | None = None) -> Policy:
    """A fresh policy that has seen nothing. fair_queue: the lane's tiers, for `drain`; without it
    all tiers have equal shares."""
    core, need = _core(numbers, fair_queue or FairQueue({}))
    core = WithBatches(core)
    patient = Stabilised(core, lambda snapshot: _kept_seconds(numbers, snapshot))
    stepped = Stepped(patient, numbers.step_up, numbers.step_down, numbers.step_seconds)
    alert = Panicking(stepped, need, numbers.panic_factor, numbers.panic_seconds)
    return Bounded(alert, numbers.min_replicas, numbers.max_replicas)


def _core(numbers: PolicyNumbers, fair_queue: FairQueue) -> tuple[Policy, Policy]:
    """The policy that follows the load, and its need at once."""
    if numbers.policy == "ongoing":
        ongoing = OngoingRequests(numbers.ongoing_per_replica)
        return ongoing, ongoing
    if numbers.policy == "static":
        peak = Decision(numbers.max_replicas, "static", Cause.STATIC)
        return (lambda _: peak), (lambda _: peak)
    drain = DrainTarget(
        numbers.wait_of, fair_queue, numbers.smoothing_seconds, numbers.horizon_seconds
    )
    return drain, drain.need


def _kept_seconds(numbers: PolicyNumbers, snapshot: LoadSnapshot) -> float:
    """How long a replica is kept that is not needed."""
    return max(numbers.scale_down_seconds, numbers.idle_cold_starts * snapshot.cold_start_seconds)
