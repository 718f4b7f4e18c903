"""A lane's heat as JSON. Pure; nothing in it is about any one tenant."""

from __future__ import annotations

from typing import Any

from autoscaling.heat import Heat


def status_body(lane: str, heat: Heat) -> dict[str, Any]:
    """GET /v1/status. GPU-seconds and seconds; null is unknown."""
    waiting = {
        name: {
            "jobs": tier.jobs,
            "gpu_seconds": _short(tier.seconds),
            "oldest_seconds": _short(tier.oldest_seconds),
            "parked_jobs": tier.parked_jobs,
        }
        for name, tier in sorted(heat.waiting.items())
    }
    return {
        "object": "status",
        "lane": lane,
        "read_at": _short(heat.read_at),
        "drain_seconds": _short(heat.drain_seconds),
        "trend": _short(heat.trend),
        "render_rate": _short(heat.render_rate),
        "arrival_rate": _short(heat.arrival_rate),
        "running_gpu_seconds": _short(heat.running_seconds),
        "waiting": waiting,
    }


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
