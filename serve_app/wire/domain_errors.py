"""The one table from errors of the domain to those that a client can see."""

from __future__ import annotations

import math

from autoscaling.temporary_limits import Temporary
from jobs.blobs.store import StoreUnavailable
from jobs.ledger_errors import (
    FilesFull,
    IdempotencyMismatch,
    JobUnreadable,
    LedgerError,
    LedgerUnavailable,
    NotYetOpen,
    QueueFull,
    QuotaExceeded,
)
from jobs.webhooks import TooManyEndpoints
from serve_app.wire.errors import (
    NO_RETRY,
    ApiError,
    InvalidRequest,
    KeyReused,
    NewerJob,
    NotOpen,
    PicturesAway,
    QueueIsFull,
    QuotaUsedUp,
    TemporaryLimit,
    Unavailable,
)
from serve_app.wire.limits import ratelimit_headers, temporary_headers, whole_seconds

WORTH_WAITING_SECONDS = 60
"""Longer waits are for people to decide about, not for a client's automatic retries."""
UNKNOWN_WAIT_SECONDS = 10


def from_domain(error: Exception) -> ApiError:
    """The client's view of an error that was raised further down."""
    match error:
        case ApiError():
            return error
        case LedgerUnavailable():
            return Unavailable()
        case StoreUnavailable():
            return PicturesAway()
        case JobUnreadable():
            return NewerJob()
        case QuotaExceeded():
            return _quota_used_up(error)
        case NotYetOpen():
            return NotOpen(
                f"Images are not yet open for your account: {error}. Nothing was recorded; "
                "GET /v1/limits says when you are in."
            )
        case FilesFull():
            message = f"{error}: delete some of your files first."
            return InvalidRequest(message[0].upper() + message[1:], code="too_many_files")
        case TooManyEndpoints():
            message = f"{error}: delete one of your webhook endpoints first."
            code = "too_many_webhook_endpoints"
            return InvalidRequest(message[0].upper() + message[1:], code=code)
        case IdempotencyMismatch():
            return KeyReused(param="Idempotency-Key")
        case _:
            return ApiError()


def _quota_used_up(error: QuotaExceeded) -> QuotaUsedUp:
    usage = error.usage
    headers = ratelimit_headers(usage)
    if error.asked > (usage.limit or 0):
        message = f"You asked for {error.asked} images, and may have {usage.limit} a day."
        return QuotaUsedUp(message, param="n", headers=headers)
    headers["retry-after"] = str(math.ceil(usage.resets_in_seconds))
    return QuotaUsedUp(f"You have used up your images for today: {error}.", headers=headers)


def queue_is_full(full: QueueFull, eta_seconds: float | None) -> QueueIsFull:
    """The refusal, with the time in which the oldest of the tenant's jobs will be done."""
    seconds = UNKNOWN_WAIT_SECONDS if eta_seconds is None else max(1, math.ceil(eta_seconds))
    headers = {"retry-after": str(seconds)}
    if seconds > WORTH_WAITING_SECONDS:
        headers |= NO_RETRY
    message = f"{full.limit} of your jobs are waiting, and no more may. Try again in {seconds} s."
    return QueueIsFull(message, headers=headers)


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
