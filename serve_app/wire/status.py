"""A lane's health and heat as JSON. Pure; nothing in it is about any one tenant."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from autoscaling.heat import Heat
from serve_app.wire.fields import Count


class HealthBody(TypedDict):
    """Healthy."""

    status: Literal["ok", "ready"]


class TierBacklog(TypedDict):
    jobs: Count
    gpu_seconds: float
    oldest_seconds: float
    parked_jobs: Count


class StatusBody(TypedDict):
    """The lane's heat; null is unknown."""

    object: Literal["status"]
    lane: str
    read_at: float
    drain_seconds: float | None
    trend: float | None
    render_rate: float | None
    arrival_rate: float | None
    running_gpu_seconds: float
    waiting: dict[str, TierBacklog]


def status_body(lane: str, heat: Heat) -> StatusBody:
    """GET /v1/status. GPU-seconds and seconds."""
    return {
        "object": "status",
        "lane": lane,
        "read_at": round(heat.read_at, 3),
        "drain_seconds": _short(heat.drain_seconds),
        "trend": _short(heat.trend),
        "render_rate": _short(heat.render_rate),
        "arrival_rate": _short(heat.arrival_rate),
        "running_gpu_seconds": round(heat.running_seconds, 3),
        "waiting": {
            name: {
                "jobs": tier.jobs,
                "gpu_seconds": round(tier.seconds, 3),
                "oldest_seconds": round(tier.oldest_seconds, 3),
                "parked_jobs": tier.parked_jobs,
            }
            for name, tier in sorted(heat.waiting.items())
        },
    }


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
