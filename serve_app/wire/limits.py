"""A tenant's limits as headers and as JSON. Pure."""

from __future__ import annotations

import math
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from autoscaling.temporary_limits import Temporary
from jobs.request import Tenant
from jobs.tiers import Standing, Tier, Usage
from serve_app.wire.fields import Count, Seconds


class Left(TypedDict):
    limit: Count | None
    used: Count
    remaining: Count | None


class LeftToday(Left):
    resets_at: Seconds


class UsualLimits(TypedDict):
    images_per_day: Count | None
    queued_jobs: Count | None
    concurrent_renders: Count | None


class LimitsBody(TypedDict):
    """The limits, and what is used of them."""

    object: Literal["limits"]
    tenant: str
    tier: str
    open: bool
    images_per_day: LeftToday
    queued_jobs: Left
    concurrent_renders: Left
    temporary: bool
    since: NotRequired[Seconds]
    reason: NotRequired[str]
    eases_in_seconds: NotRequired[Count]
    usual: NotRequired[UsualLimits]


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
    """Rounded up, and at most an hour: beyond that nothing is foreseeable."""
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
) -> LimitsBody:
    """GET /v1/limits: what holds now, `tier` being the usual. A limit of null is none."""
    now, usage = tier if temporary is None else temporary.now, standing.usage
    newcomer_refused = standing.newcomer and not now.open_to_newcomer(tenant.id)
    body: LimitsBody = {
        "object": "limits",
        "tenant": tenant.id,
        "tier": tenant.tier,
        "open": now.open_to(tenant.id) and not newcomer_refused,
        "images_per_day": {
            **_left(usage.limit, usage.used),
            "resets_at": math.ceil(usage.resets_at),
        },
        "queued_jobs": _left(now.queued_jobs, standing.queued_jobs),
        "concurrent_renders": _left(now.concurrent_renders, standing.renders),
        "temporary": temporary is not None,
    }
    if temporary is not None:
        body |= {
            "since": math.floor(temporary.since),
            "reason": temporary.reason,
            "eases_in_seconds": whole_seconds(temporary.eases_in_seconds),
            "usual": {
                "images_per_day": tier.images_per_day,
                "queued_jobs": tier.queued_jobs,
                "concurrent_renders": tier.concurrent_renders,
            },
        }
    return body


def _left(limit: int | None, used: int) -> Left:
    remaining = None if limit is None else max(0, limit - used)
    return {"limit": limit, "used": used, "remaining": remaining}
