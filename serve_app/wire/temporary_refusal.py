"""What a request is told that only temporary limits refuse. Pure."""

from __future__ import annotations

from autoscaling.temporary_limits import Temporary
from jobs.ledger import LedgerError, NotYetOpen, QueueFull, QuotaExceeded
from serve_app.wire.errors import NO_RETRY, WORTH_WAITING_SECONDS, ApiError, NotOpen
from serve_app.wire.limits import ratelimit_headers, temporary_headers, whole_seconds


class TemporaryLimit(ApiError):
    """Limits are tighter than usual for a while."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"


def temporary_refusal(
    error: LedgerError, tenant: str, n: int, temporary: Temporary | None
) -> ApiError | None:
    """The refusal of n images, with the usual limit and the soonest time at which it may hold
    again; None when the usual limits refuse them, too."""
    if temporary is None:
        return None
    usual, seconds = temporary.usual, temporary.eases_in_seconds
    headers = temporary_headers(temporary)
    match error:
        case QuotaExceeded(usage=usage) if _fits(usage.used + n, usual.images_per_day):
            what, limit, usually = "images a day", usage.limit, usual.images_per_day
            seconds = min(seconds, usage.resets_in_seconds)
            headers |= ratelimit_headers(usage)
        case QueueFull() if _fits(error.limit + 1, usual.queued_jobs):
            what, limit, usually = "waiting jobs", error.limit, usual.queued_jobs
        case NotYetOpen() if usual.open_to(tenant):
            headers["retry-after"] = str(whole_seconds(seconds))
            message = "Temporary limits: new accounts come in step by step while much is waiting."
            return NotOpen(f"{message} Try again in {whole_seconds(seconds)} s.", headers=headers)
        case _:
            return None
    headers["retry-after"] = str(whole_seconds(seconds))
    if seconds > WORTH_WAITING_SECONDS:
        headers |= NO_RETRY
    instead = "any number" if usually is None else usually
    message = f"Temporary limits: {what}: {limit} instead of {instead} while much is waiting."
    again = f"Try again in {whole_seconds(seconds)} s."
    return TemporaryLimit(f"{message} {again}", headers=headers, details={"temporary": True})


def _fits(count: int, limit: int | None) -> bool:
    return limit is None or count <= limit
