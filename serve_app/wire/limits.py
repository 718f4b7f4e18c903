"""A tenant's limits as headers and as JSON. Pure."""

from __future__ import annotations

import math
from typing import Any

from autoscaling.temporary_limits import Temporary
from jobs.ledger import Standing, Usage
from jobs.request import Tenant
from jobs.tiers import Tier


def ratelimit_headers(usage: Usage) -> dict[str, str]:
    """x-ratelimit-*, named as OpenAI names them; none where there is no limit."""
    if usage.limit is None:
        return {}
    return {
        "x-ratelimit-limit-images": str(usage.limit),
        "x-ratelimit-remaining-images": str(usage.remaining),
        "x-ratelimit-reset-images": duration(usage.resets_in_seconds),
    }


def whole_seconds(seconds: float) -> int:
    """Rounded up, and nothing beyond an hour, which nobody can foresee."""
    return max(1, math.ceil(min(seconds, 3600)))


def duration(seconds: float) -> str:
    """Whole seconds, rounded up, in OpenAI's spelling: 1s, 6m0s, 11h5m0s."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def temporary_headers(temporary: Temporary | None) -> dict[str, str]:
    """Says that the limits of this answer are not the usual ones."""
    return {} if temporary is None else {"x-meltproof-limits": "temporary"}


def limits_body(
    tenant: Tenant, tier: Tier, standing: Standing, temporary: Temporary | None
) -> dict[str, Any]:
    """GET /v1/limits: what holds now, `tier` being the usual. A limit of null is none."""
    body = _limits(tenant, tier if temporary is None else temporary.now, standing)
    if temporary is None:
        return {**body, "temporary": False}
    return {
        **body,
        "temporary": True,
        "since": math.floor(temporary.since),
        "reason": temporary.reason,
        "eases_in_seconds": whole_seconds(temporary.eases_in_seconds),
        "usual": {
            "images_per_day": tier.images_per_day,
            "queued_jobs": tier.queued_jobs,
            "concurrent_renders": tier.concurrent_renders,
        },
    }


def _limits(tenant: Tenant, tier: Tier, standing: Standing) -> dict[str, Any]:
    usage = standing.usage
    return {
        "object": "limits",
        "tenant": tenant.id,
        "tier": tenant.tier,
        "open": tier.open_to(tenant.id)
        and (not standing.newcomer or tier.open_to_newcomer(tenant.id)),
        "images_per_day": {
            **_left(usage.limit, usage.used),
            "resets_at": math.ceil(usage.resets_at),
        },
        "queued_jobs": _left(tier.queued_jobs, standing.queued_jobs),
        "concurrent_renders": _left(tier.concurrent_renders, standing.renders),
    }


def _left(limit: int | None, used: int) -> dict[str, int | None]:
    remaining = None if limit is None else max(0, limit - used)
    return {"limit": limit, "used": used, "remaining": remaining}
