"""Scaling policies inside Ray Serve: the only file of this folder that knows Ray.

Serve calls a policy on the controller's own loop, several times a second and for all applications
in turn. One that raises or waits would freeze all of them, so this one does neither: a thread
reads, and whatever goes wrong, the answer is the target that Serve has.
"""

from __future__ import annotations

import json
import logging
import math
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from autoscaling.cold_start import ColdStarts
from autoscaling.heat import load_snapshot
from autoscaling.latest import Latest
from autoscaling.policies import PolicyNumbers, build_policy
from autoscaling.policy import Cause, Decision, LoadSnapshot, Policy, ScalingReport
from jobs.depth import Depth
from jobs.history import ScalingChange
from jobs.policy.fair_queue import FairQueue
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier

log = logging.getLogger("ray.serve")

POLL_SECONDS = 0.25
FRESH_SECONDS = 5.0
"""A reading of the load that is older says nothing about a burst."""
LATE_SECONDS = 120.0
LOG_SECONDS = 60.0
REPORT_SECONDS = 5.0
"""Between two looks for another report."""
MOST_KEPT = 50
"""Decisions that wait for the ledger; the newest."""
GUESS_SECONDS = 10.0
"""Of a cold start, until one was measured."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What a policy has to know of its lane."""

    lane: str
    """The queue of the model that is scaled."""
    dsn: str
    """Of the lane's ledger."""
    weights: dict[str, float]
    """Of the tiers."""
    least_share: float
    late_seconds: float
    """See ColdStarts."""
    numbers: PolicyNumbers
    """Serve's bounds replace those in it."""

    @property
    def fair_queue(self) -> FairQueue:
        """The tiers' shares of the lane."""
        return FairQueue({t: Tier(weight=w) for t, w in self.weights.items()}, self.least_share)


def publish(application: str, deployment: str, scaling: Scaling) -> None:
    """Tell the policy of these decoders, wherever the controller is. Called by gateways."""
    _internal_kv_put(
        f"{application}/{deployment}", json.dumps(asdict(scaling)), namespace=_NAMESPACE
    )


def published(application: str, deployment: str) -> Scaling:
    """What its gateways told last. LookupError while they start."""
    stored = _internal_kv_get(f"{application}/{deployment}", namespace=_NAMESPACE)
    if stored is None:
        raise LookupError("no gateway of the application runs yet")
    found = json.loads(stored)
    return Scaling(**{**found, "numbers": PolicyNumbers(**found["numbers"])})


_NAMESPACE = "meltproof-scaling"
_REPORT = "report"


def publish_report(report: ScalingReport) -> None:
    """Give it to the policies of the cluster, in place of an earlier one. It is pickled, and made
    again in the controller's process. Called by gateways."""
    _internal_kv_put(_REPORT, pickle.dumps(report), namespace=_NAMESPACE)


@contextmanager
def _report_reader() -> Iterator[Callable[[], ScalingReport]]:
    """Reads which one was published last; raises while there is none."""
    found: tuple[bytes, ScalingReport] | None = None

    def read() -> ScalingReport:
        nonlocal found
        stored = _internal_kv_get(_REPORT, namespace=_NAMESPACE)
        if stored is None:
            raise LookupError("no gateway has published one yet")
        if found is None or found[0] != stored:
            found = stored, pickle.loads(stored)
        return found[1]

    yield read


class Unreported:
    """See ScalingReport. Until one is published."""

    def wanted(self, application: str, deployment: str, replicas: int) -> None:
        """See ScalingReport."""

    def decided(self, application: str, deployment: str, cause: Cause, *, up: bool) -> None:
        """See ScalingReport."""

    def held(self, application: str, deployment: str) -> None:
        """See ScalingReport."""


Reading = tuple[Depth, Scaling]


@contextmanager
def _reader(
    application: str, deployment: str, decided: deque[ScalingChange]
) -> Iterator[Callable[[], Reading]]:
    """Reads the load of the lane, and keeps what was decided; raises when its ledger is another
    one now."""
    dsn = published(application, deployment).dsn
    with closing(SqlLedger(dsn)) as ledger:

        def read() -> Reading:
            scaling = published(application, deployment)
            if scaling.dsn != dsn:
                raise LookupError("the ledger has moved")
            reading = ledger.depth(scaling.lane), scaling
            _keep(ledger, scaling.lane, decided)
            return reading

        yield read


def _keep(ledger: SqlLedger, queue: str, decided: deque[ScalingChange]) -> None:
    """Write what was decided since. What cannot be written is in the log of the controller."""
    now, changes = time.monotonic(), []
    while decided:
        changes.append(decided.popleft())
    if changes:
        try:
            ledger.log_scaling(queue, [(now - one.at, one) for one in changes])
        except Exception as error:  # noqa: BLE001 - the load is read all the same
            log.info("scaling decisions of %s are not kept: %s", queue, error)


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """What a policy decides upon."""

    load: LoadSnapshot
    numbers: PolicyNumbers
    fair_queue: FairQueue | None = None
    late_seconds: float = LATE_SECONDS


class RequestsPolicy:
    """An AutoscalingPolicy class for encoder, classifier and gateway: replicas by the requests that
    they have, `target_ongoing_requests` each."""

    def __init__(self) -> None:
        self._input: PolicyInput | None = None
        self._policy: Policy | None = None
        self._cold_starts = ColdStarts(GUESS_SECONDS, LATE_SECONDS)
        self._decision: Decision | None = None
        self._logged: Decision | None = None
        self._logged_at = 0.0
        self._reports: Latest[ScalingReport] | None = None

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """Replicas wanted, and no state. Never raises, never waits."""
        try:
            return self._decide(ctx), {}
        except Exception as error:  # noqa: BLE001 - a policy that raises freezes the whole cluster
            return self._hold(ctx, f"{type(error).__name__}: {error}"), {}

    def _read(self, ctx: Any) -> PolicyInput | str:
        """What there is to see now, or why there is nothing."""
        load = LoadSnapshot(
            at=time.monotonic(),
            waiting={},
            running_seconds=ctx.total_num_requests,
            arrival_rate=0.0,
            replicas=len(ctx.running_replicas),
            target=ctx.target_num_replicas,
            cold_start_seconds=self._cold_starts.seconds,
        )
        each = ctx.config.get_target_ongoing_requests()
        return PolicyInput(load, PolicyNumbers(policy="ongoing", ongoing_per_replica=each))

    def _decide(self, ctx: Any) -> int:
        now, running = time.monotonic(), len(ctx.running_replicas)
        self._cold_starts.look(now, ctx.target_num_replicas, running)
        found = self._read(ctx)
        if isinstance(found, str):
            return self._hold(ctx, found)
        decision = self._ask(ctx, found)
        if decision.replicas >= ctx.target_num_replicas and self._cold_starts.late(now):
            missing = ctx.target_num_replicas - running
            return self._hold(ctx, f"{missing} of them were asked for long ago and do not come")
        self._report.wanted(ctx.app_name, ctx.deployment_name, decision.replicas)
        if decision.replicas != ctx.target_num_replicas:
            self._log(ctx, decision)
        return decision.replicas

    def _ask(self, ctx: Any, found: PolicyInput) -> Decision:
        """The policy sees every reading once; one with new numbers begins anew."""
        bounds = ctx.capacity_adjusted_min_replicas, ctx.capacity_adjusted_max_replicas
        numbers = replace(found.numbers, min_replicas=bounds[0], max_replicas=bounds[1])
        found = replace(found, numbers=numbers)
        before, self._input = self._input, found
        if self._policy is None or before is None or _terms(before) != _terms(found):
            self._policy = build_policy(numbers, found.fair_queue)
            self._cold_starts.late_seconds = found.late_seconds
        elif self._decision is not None and before.load.at == found.load.at:
            return self._decision
        self._decision = self._policy(found.load)
        return self._decision

    def _hold(self, ctx: Any, why: str) -> int:
        self._report.held(ctx.app_name, ctx.deployment_name)
        self._log(ctx, Decision(ctx.target_num_replicas, why))
        return int(ctx.target_num_replicas)

    def _log(self, ctx: Any, decision: Decision) -> None:
        """Once when it is news, and now and then while it lasts. The same count as before: held."""
        now, target = time.monotonic(), ctx.target_num_replicas
        if decision != self._logged or now - self._logged_at > LOG_SECONDS:
            self._logged, self._logged_at = decision, now
            what = f"{'holds ' if decision.replicas == target else ''}{decision.replicas}"
            where = f"{ctx.app_name}/{ctx.deployment_name}"
            log.info("scaling %s: %s: %s", where, what, decision.reason)
            if decision.replicas != target:
                up = decision.replicas > target
                self._report.decided(ctx.app_name, ctx.deployment_name, decision.cause, up=up)
            self._note(ScalingChange(now, target, decision.replicas, decision.reason))

    @property
    def _report(self) -> ScalingReport:
        """What was published last; it is read on a thread, and never waited for."""
        if self._reports is None:
            self._reports = Latest(_report_reader, REPORT_SECONDS, math.inf)
        answer = self._reports.answer
        return Unreported() if answer is None else answer[1]

    def _note(self, change: ScalingChange) -> None:
        """Keep it for operators, where there is a ledger."""


def _terms(found: PolicyInput) -> tuple[object, ...]:
    return found.numbers, found.fair_queue, found.late_seconds


class DecoderPolicy(RequestsPolicy):
    """An AutoscalingPolicy class for `Decoder`: replicas by what waits in the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: Latest[Reading] | None = None
        self._decided: deque[ScalingChange] = deque(maxlen=MOST_KEPT)

    def _note(self, change: ScalingChange) -> None:
        self._decided.append(change)

    def _read(self, ctx: Any) -> PolicyInput | str:
        if self._latest is None:
            reader = partial(_reader, ctx.app_name, ctx.deployment_name, self._decided)
            self._latest = Latest(reader, POLL_SECONDS, FRESH_SECONDS)
        if (answer := self._latest.answer) is None:
            return self._latest.problem
        read_at, (depth, scaling) = answer
        load = load_snapshot(
            depth, len(ctx.running_replicas), ctx.target_num_replicas, self._cold_starts.seconds
        )
        load = replace(load, at=read_at)  # the ledger's clock may be set back, this one never is
        return PolicyInput(load, scaling.numbers, scaling.fair_queue, scaling.late_seconds)
