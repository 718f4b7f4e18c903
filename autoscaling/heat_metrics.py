"""Heat as metrics: their names, what they mean, their values. Pure."""

from __future__ import annotations

import math

from autoscaling.heat import Heat

OF_LANE = {
    "meltproof_drain_seconds": "Until all that waits and runs is drawn; NaN while unknown.",
    "meltproof_render_rate": "GPU-seconds drawn per second; NaN while unknown.",
    "meltproof_arrival_rate": "GPU-seconds of work accepted per second, over six seconds.",
    "meltproof_running_gpu_seconds": "GPU-seconds left of what dispatchers hold.",
}
OF_TIER = {
    "meltproof_waiting_gpu_seconds": "Predicted GPU-seconds of what waits.",
    "meltproof_queued_jobs": "Jobs that wait, also those of tenants at their limit.",
    "meltproof_oldest_wait_seconds": "How long the oldest of the next jobs has waited.",
}


def of_lane(heat: Heat) -> dict[str, float]:
    """What OF_LANE names."""
    values = heat.drain_seconds, heat.render_rate, heat.arrival_rate, heat.running_seconds
    return {n: math.nan if v is None else v for n, v in zip(OF_LANE, values, strict=True)}


def of_tier(heat: Heat, tier: str) -> dict[str, float]:
    """What OF_TIER names; zeros for a tier without waiting jobs."""
    waiting = heat.waiting.get(tier)
    if waiting is None:
        return dict.fromkeys(OF_TIER, 0.0)
    jobs = waiting.jobs + waiting.parked_jobs
    return dict(zip(OF_TIER, (waiting.seconds, float(jobs), waiting.oldest_seconds), strict=True))
