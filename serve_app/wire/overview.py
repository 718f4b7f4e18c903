"""What operators see of a lane, now and over time, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict

from autoscaling.capacity import ClusterNode
from autoscaling.heat import Heat
from autoscaling.limits import Threshold
from autoscaling.temporary_limits import TemporaryLimits
from jobs.announcements import AnnouncedModel
from jobs.history import LoadSample, QueueHistory, ScalingChange
from jobs.limit_levels import LimitChange, LimitLevel
from jobs.tiers import Tier, rollout_percent
from serve_app.wire.fields import Count
from serve_app.wire.models import ServedModel
from serve_app.wire.status import StatusBody, status_body

WINDOWS = {"5m": 300, "15m": 900, "1h": 3600, "6h": 6 * 3600, "24h": 86400, "7d": 7 * 86400}
"""What history may be asked for, in seconds."""
MOST_POINTS = 240
"""Of a chart, and of its events."""
DEAD_NODES = 5
"""That are shown beside those that live; Ray keeps all that ever were."""


class TierPromise(TypedDict):
    images_per_day: Count | None
    queued_jobs: Count | None
    concurrent_renders: Count | None
    newcomers_percent: float


class TierLimits(TypedDict):
    """now: what is promised in place of the usual; null: the usual."""

    weight: float
    usual: TierPromise
    now: TierPromise | None


class LimitsInForce(TypedDict):
    """level: how many of the thresholds are passed, 0 for the usual limits. Times in seconds since
    the epoch."""

    level: Count
    since: float | None
    reason: str
    tiers: dict[str, TierLimits]


class DecodersBody(TypedDict):
    """Decoder replicas as the model's dispatcher saw them at seen_at; null is unknown. slots: of
    each."""

    running: Count | None
    starting: Count | None
    slots: Count | None
    seen_at: float | None


class ModelOverview(TypedDict):
    """A model and its queue. seen_at: when a dispatcher of it announced it last; null: never."""

    name: str
    queue: str
    family: str
    available: bool
    start_seconds: float | None
    seen_at: float | None
    heat: StatusBody
    decoders: DecodersBody
    limits: LimitsInForce


class ThresholdBody(TypedDict):
    above_seconds: float
    below_seconds: float
    hold_seconds: float


class NodeBody(TypedDict):
    """A machine of the cluster. draining: it was told to leave, and will be gone at gone_at, where
    that was said. replicas: by application/deployment."""

    id: str
    address: str
    alive: bool
    head: bool
    draining: bool
    gone_at: float | None
    num_cpus: float
    num_gpus: float
    replicas: dict[str, Count]


class OverviewBody(TypedDict):
    """The lane as it is now. thresholds: of temporary limits, by rising heat. nodes: null is
    unknown."""

    object: Literal["overview"]
    lane: str
    models: list[ModelOverview]
    thresholds: list[ThresholdBody]
    nodes: list[NodeBody] | None


class SampleBody(TypedDict):
    """A reading. Work in GPU-seconds, rates in GPU-seconds a second; null is unknown."""

    at: float
    waiting_jobs: dict[str, Count]
    waiting_seconds: float
    running_seconds: float
    arrival_rate: float
    render_rate: float | None
    drain_seconds: float | None
    running: Count | None
    starting: Count | None


class ScalingBody(TypedDict):
    """What the scaling policy decided; the same count twice: it holds, and why."""

    at: float
    from_replicas: Count
    to_replicas: Count
    reason: str


class LimitChangeBody(TypedDict):
    at: float
    from_level: Count
    to_level: Count
    reason: str
    drain_seconds: float


class ModelHistory(TypedDict):
    """Oldest first. limits: with the change that held when the window began."""

    name: str
    queue: str
    samples: list[SampleBody]
    scaling: list[ScalingBody]
    limits: list[LimitChangeBody]


class HistoryBody(TypedDict):
    """The lane over time. read_at: the end of the window, in seconds since the epoch."""

    object: Literal["history"]
    lane: str
    read_at: float
    window_seconds: Count
    models: list[ModelHistory]


@dataclass(frozen=True, slots=True)
class ModelReading:
    """What was read of one model."""

    model: ServedModel
    announced: AnnouncedModel | None
    heat: Heat
    level: LimitLevel
    limits: TemporaryLimits
    newest: LoadSample | None


def overview_body(
    lane: str,
    readings: Sequence[ModelReading],
    tiers: Mapping[str, Tier],
    thresholds: Sequence[Threshold],
    nodes: Sequence[ClusterNode] | None,
) -> OverviewBody:
    """GET /v1/operator/overview."""
    return {
        "object": "overview",
        "lane": lane,
        "models": [_model(reading, tiers) for reading in readings],
        "thresholds": [
            {
                "above_seconds": one.above_seconds,
                "below_seconds": one.below_seconds,
                "hold_seconds": one.hold_seconds,
            }
            for one in thresholds
        ],
        "nodes": None if nodes is None else _nodes(nodes),
    }


def _model(reading: ModelReading, tiers: Mapping[str, Tier]) -> ModelOverview:
    model, newest, level = reading.model, reading.newest, reading.level
    return {
        "name": model.name,
        "queue": model.queue,
        "family": model.terms.family,
        "available": model.available,
        "start_seconds": model.start_seconds,
        "seen_at": None if reading.announced is None else round(reading.announced.seen_at, 3),
        "heat": status_body(model.queue, reading.heat),
        "decoders": {
            "running": None if newest is None else newest.running,
            "starting": None if newest is None else newest.starting,
            "slots": model.terms.slots,
            "seen_at": None if newest is None else round(newest.at, 3),
        },
        "limits": {
            "level": level.level,
            "since": round(level.since, 3) if level.since else None,
            "reason": level.reason,
            "tiers": {name: _limits(reading, name, tier) for name, tier in sorted(tiers.items())},
        },
    }


def _limits(reading: ModelReading, name: str, usual: Tier) -> TierLimits:
    temporary = reading.limits.of(name)
    now = None if temporary is None else _promise(temporary.now)
    return {"weight": usual.weight, "usual": _promise(usual), "now": now}


def _promise(tier: Tier) -> TierPromise:
    return {
        "images_per_day": tier.images_per_day,
        "queued_jobs": tier.queued_jobs,
        "concurrent_renders": tier.concurrent_renders,
        "newcomers_percent": rollout_percent(tier.newcomers),
    }


def _nodes(nodes: Sequence[ClusterNode]) -> list[NodeBody]:
    """The head first."""
    alive = sorted((n for n in nodes if n.alive), key=lambda n: (not n.head, n.address, n.id))
    dead = [node for node in nodes if not node.alive][:DEAD_NODES]
    return [
        {
            "id": node.id,
            "address": node.address,
            "alive": node.alive,
            "head": node.head,
            "draining": node.draining,
            "gone_at": node.gone_at,
            "num_cpus": node.offers.num_cpus,
            "num_gpus": node.offers.num_gpus,
            "replicas": dict(sorted(node.replicas.items())),
        }
        for node in (*alive, *dead)
    ]


def history_body(
    lane: str, window: str, found: Sequence[tuple[ServedModel, QueueHistory]]
) -> HistoryBody:
    """GET /v1/operator/history."""
    return {
        "object": "history",
        "lane": lane,
        "read_at": round(max((one.read_at for _, one in found), default=0.0), 3),
        "window_seconds": WINDOWS[window],
        "models": [
            {
                "name": model.name,
                "queue": model.queue,
                "samples": [_sample(one) for one in history.samples],
                "scaling": [_scaling(one) for one in history.scaling],
                "limits": [_change(one) for one in history.limits],
            }
            for model, history in found
        ],
    }


def _sample(one: LoadSample) -> SampleBody:
    return {
        "at": round(one.at, 3),
        "waiting_jobs": dict(one.waiting_jobs),
        "waiting_seconds": one.waiting_seconds,
        "running_seconds": one.running_seconds,
        "arrival_rate": one.arrival_rate,
        "render_rate": one.render_rate,
        "drain_seconds": one.drain_seconds,
        "running": one.running,
        "starting": one.starting,
    }


def _scaling(one: ScalingChange) -> ScalingBody:
    return {
        "at": round(one.at, 3),
        "from_replicas": one.from_replicas,
        "to_replicas": one.to_replicas,
        "reason": one.reason,
    }


def _change(one: LimitChange) -> LimitChangeBody:
    return {
        "at": round(one.at, 3),
        "from_level": one.from_level,
        "to_level": one.to_level,
        "reason": one.reason,
        "drain_seconds": round(one.drain_seconds, 3),
    }
