"""Every error that a client can see, and the one table from domain errors to them.

The OpenAI SDK retries 408, 409, 429 and >= 500 unless `x-should-retry` says otherwise: 409 is
therefore never used, and what is permanent says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from autoscaling.temporary_limits import Temporary
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
from serve_app.wire.limits import ratelimit_headers, temporary_headers, whole_seconds

NO_RETRY = {"x-should-retry": "false"}
WORTH_WAITING_SECONDS = 60
"""Longer waits are for people to decide about, not for a client's automatic retries."""
UNKNOWN_WAIT_SECONDS = 10


class ModerationDetails(TypedDict):
    moderation_stage: str
    categories: list[str]


class ProblemDetails(TypedDict, total=False):
    moderation_details: ModerationDetails
    job_id: str
    temporary: bool


class ProblemBody(ProblemDetails):
    """What is wrong; some errors say more than the first four fields."""

    message: Annotated[str, Field(min_length=1)]
    type: str
    param: str | None
    code: str | None


class ErrorBody(TypedDict):
    """The OpenAI error envelope."""

    error: ProblemBody


class ApiError(Exception):
    """The server had an error while processing your request."""

    status = 500
    type = "server_error"
    code: str | None = None
    headers: Mapping[str, str] = {}
    charged = False  # against limits.refused_per_second, when it refuses an order

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: ProblemDetails | None = None,
    ) -> None:
        self.message = message or (self.__doc__ or "").strip()
        super().__init__(self.message)
        self.param = param
        self.code = code or type(self).code
        self.headers = {**type(self).headers, **(headers or {})}
        self.details: ProblemDetails = details or {}

    def body(self) -> ProblemBody:
        """What stands under `error` in the envelope."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            **self.details,
        }

    def envelope(self) -> ErrorBody:
        """The OpenAI error envelope."""
        return {"error": self.body()}


class ClientError(ApiError):
    """The request is wrong."""

    type = "invalid_request_error"


class TooManyRequests(ApiError):
    """You are asking too often."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"


class InvalidRequest(ClientError):
    """The request is not valid."""

    status = 400
    code = "invalid_value"
    charged = True


class ModerationBlocked(ApiError):
    """Your request was rejected by the safety system."""

    status = 400
    type = "image_generation_user_error"
    code = "moderation_blocked"


class Unauthorized(ClientError):
    """Incorrect API key provided."""

    status = 401
    code = "invalid_api_key"
    headers = {"www-authenticate": "Bearer"}


class BadSignature(ClientError):
    """This URL has expired or its signature is wrong."""

    status = 403
    code = "invalid_signature"


class NotOpen(ClientError):
    """Images are not yet open for your account. They open step by step; nothing was recorded."""

    status = 403
    code = "not_yet_open"
    headers = NO_RETRY


class NotFound(ClientError):
    """There is nothing here."""

    status = 404
    code = "not_found"
    charged = True


class MethodNotAllowed(ClientError):
    """That method is not allowed here."""

    status = 405
    code = "method_not_allowed"


class BodyTooSlow(ClientError):
    """The request body did not arrive in time."""

    status = 408
    code = "request_timeout"
    headers = {"connection": "close"}
    charged = True


class JobEnded(ClientError):
    """The job was ended before it had an image."""

    status = 410
    code = "job_cancelled"


class ImageExpired(ClientError):
    """This image was kept for a while and has been deleted since."""

    status = 410
    code = "image_expired"


class Retired(ClientError):
    """This endpoint is no more."""

    status = 410
    code = "endpoint_retired"


class BodyTooLarge(ClientError):
    """The request body is too large."""

    status = 413
    code = "body_too_large"
    headers = {"connection": "close"}
    charged = True


class UnknownEncoding(ClientError):
    """Request bodies are read as they are: send it without a Content-Encoding."""

    status = 415
    code = "unsupported_content_encoding"
    headers = {"accept-encoding": "identity"}  # RFC 9110 12.5.3: what would have been read


class WrongHost(ClientError):
    """This server has another name."""

    status = 421
    code = "wrong_host"


class KeyReused(ClientError):
    """This Idempotency-Key was used with another request body."""

    status = 422
    code = "idempotency_mismatch"
    charged = True


class QuotaUsedUp(ApiError):
    """You have used up your images for today."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    headers = NO_RETRY


class QueueIsFull(TooManyRequests):
    """As many of your jobs are waiting as may wait at the same time."""


class TemporaryLimit(TooManyRequests):
    """Limits are tighter than usual for a while."""


class TooManyWaiting(TooManyRequests):
    """Too many requests are waiting to be written down. Nothing was accepted; please try again."""

    code = "too_many_waiting"
    headers = {"retry-after": "2", "x-should-retry": "true"}


class TooManyOpen(TooManyRequests):
    """Too many requests of your account are waiting or streaming. Nothing was accepted."""

    code = "too_many_open"
    headers = {"retry-after": "5", "x-should-retry": "true"}


class StillQueued(TooManyRequests):
    """The job is still waiting. It keeps its place: repeat the request to go on waiting for it."""

    code = "still_queued"
    headers = {"retry-after": "1", "x-should-retry": "true"}


class ImageFailed(ApiError):
    """The image could not be drawn."""

    status = 500
    code = "render_failed"
    headers = NO_RETRY


class Unavailable(ApiError):
    """Requests cannot be recorded just now. Nothing was accepted; please try again."""

    status = 503
    code = "ledger_unavailable"
    headers = {"retry-after": "1"}


class NoModel(ApiError):
    """No model was announced here yet. Ask again."""

    status = 503
    code = "no_model"
    headers = {"retry-after": "1"}


class NewerJob(ApiError):
    """The job was written by a newer version of the service, which is being updated. Ask again."""

    status = 503
    code = "newer_job"
    headers = {"retry-after": "1"}


def from_domain(error: Exception) -> ApiError:
    """The client's view of an error that was raised further down."""
    match error:
        case ApiError():
            return error
        case LedgerUnavailable():
            return Unavailable()
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


def too_many(
    what: str, per_second: float, wait_seconds: float, headers: Mapping[str, str] | None = None
) -> TooManyRequests:
    """The refusal by a rate limit of requests that order nothing, with when to ask again."""
    seconds = math.ceil(wait_seconds)
    message = f"Rate limit reached for {what}: {per_second:g} a second. Try again in {seconds} s."
    return TooManyRequests(message, headers={"retry-after": str(seconds), **(headers or {})})


def from_status(status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """The envelope for what the web framework refuses by itself: unknown routes and methods."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("There is no such URL.", code="unknown_url")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(headers=headers)
    error = InvalidRequest() if status < HTTPStatus.INTERNAL_SERVER_ERROR else ApiError()
    error.status = status
    return error
