"""Every error that a client can see, and the one table from domain errors to them.

    ApiError                    500 server_error
    ├── InvalidRequest          400 the body, a header or a query is wrong; `param` names the field
    ├── ModerationBlocked       400 moderation_blocked: every image was refused by the safety system
    ├── Unauthorized            401 invalid_api_key, invalid_token, unknown_tier
    ├── BadSignature            403 invalid_signature: a picture's URL is forged or too old
    ├── NotOpen                 403 not_yet_open: the tier's rollout has not reached this account
    ├── NotFound                404 not_found, unknown_url, model_not_found
    ├── MethodNotAllowed        405 method_not_allowed
    ├── BodyTooSlow             408 request_timeout
    ├── JobEnded                410 job_cancelled, job_expired
    ├── ImageExpired            410 image_expired: it was drawn, and its time to be kept is over
    ├── Retired                 410 endpoint_retired: it is no more, and something else is
    ├── BodyTooLarge            413 body_too_large
    ├── UnknownEncoding         415 unsupported_content_encoding: a body that is packed
    ├── WrongHost               421 wrong_host: it is for another name, see `gateway.hosts`
    ├── KeyReused               422 idempotency_mismatch
    ├── QuotaUsedUp             429 insufficient_quota; the client must not retry
    ├── QueueIsFull             429 rate_limit_exceeded: too many of the tenant's jobs wait
    ├── TooManyRequests         429 rate_limit_exceeded: too many polls, or too many wrong keys
    ├── TemporaryLimit          429 rate_limit_exceeded: only temporary limits refuse it, see
    │                           temporary_refusal.py
    ├── TooManyWaiting          429 too_many_waiting: the gateway has no memory for one more
    ├── TooManyOpen             429 too_many_open: requests of this account that wait or stream
    ├── StillQueued             429 still_queued; the client's retry goes on waiting for that job
    ├── ImageFailed             500 render_failed; the client must not retry
    ├── Unavailable             503 ledger_unavailable; nothing was half accepted
    └── NewerJob                503 newer_job: while the service is updated

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

from jobs.ledger import (
    FilesFull,
    IdempotencyMismatch,
    JobUnreadable,
    LedgerUnavailable,
    NotYetOpen,
    QueueFull,
    QuotaExceeded,
)
from serve_app.wire.limits import ratelimit_headers

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


class InvalidRequest(ApiError):
    """The request is not valid."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"
    charged = True


class ModerationBlocked(ApiError):
    """Your request was rejected by the safety system."""

    status = 400
    type = "image_generation_user_error"
    code = "moderation_blocked"


class Unauthorized(ApiError):
    """Incorrect API key provided."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    headers = {"www-authenticate": "Bearer"}


class BadSignature(ApiError):
    """This URL has expired or its signature is wrong."""

    status = 403
    type = "invalid_request_error"
    code = "invalid_signature"


class NotOpen(ApiError):
    """Images are not yet open for your account. They open step by step; nothing was recorded."""

    status = 403
    type = "invalid_request_error"
    code = "not_yet_open"
    headers = NO_RETRY


class NotFound(ApiError):
    """There is nothing here."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"
    charged = True


class MethodNotAllowed(ApiError):
    """That method is not allowed here."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class BodyTooSlow(ApiError):
    """The request body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"
    headers = {"connection": "close"}
    charged = True


class JobEnded(ApiError):
    """The job was ended before it had an image."""

    status = 410
    type = "invalid_request_error"
    code = "job_cancelled"


class ImageExpired(ApiError):
    """This image was kept for a while and has been deleted since."""

    status = 410
    type = "invalid_request_error"
    code = "image_expired"


class Retired(ApiError):
    """This endpoint is no more."""

    status = 410
    type = "invalid_request_error"
    code = "endpoint_retired"


class BodyTooLarge(ApiError):
    """The request body is too large."""

    status = 413
    type = "invalid_request_error"
    code = "body_too_large"
    headers = {"connection": "close"}
    charged = True


class UnknownEncoding(ApiError):
    """Request bodies are read as they are: send it without a Content-Encoding."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_content_encoding"
    headers = {"accept-encoding": "identity"}  # RFC 9110 12.5.3: what would have been read


class WrongHost(ApiError):
    """This server has another name."""

    status = 421
    type = "invalid_request_error"
    code = "wrong_host"


class KeyReused(ApiError):
    """This Idempotency-Key was used with another request body."""

    status = 422
    type = "invalid_request_error"
    code = "idempotency_mismatch"
    charged = True


class QuotaUsedUp(ApiError):
    """You have used up your images for today."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    headers = NO_RETRY


class QueueIsFull(ApiError):
    """As many of your jobs are waiting as may wait at the same time."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"


class TooManyRequests(ApiError):
    """You are asking too often."""

    status = 429
    type = "requests"
    code = "rate_limit_exceeded"


class TooManyWaiting(ApiError):
    """Too many requests are waiting to be written down. Nothing was accepted; please try again."""

    status = 429
    type = "requests"
    code = "too_many_waiting"
    headers = {"retry-after": "2", "x-should-retry": "true"}


class TooManyOpen(ApiError):
    """Too many requests of your account are waiting or streaming. Nothing was accepted."""

    status = 429
    type = "requests"
    code = "too_many_open"
    headers = {"retry-after": "5", "x-should-retry": "true"}


class StillQueued(ApiError):
    """The job is still waiting. It keeps its place: repeat the request to go on waiting for it."""

    status = 429
    type = "requests"
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


def too_many(whose: str, per_second: float, wait_seconds: float) -> TooManyRequests:
    """The refusal of one who asks without ordering anything, with when to ask again."""
    seconds = math.ceil(wait_seconds)
    message = f"Rate limit reached for {whose}: {per_second:g} a second. Try again in {seconds} s."
    return TooManyRequests(message, headers={"retry-after": str(seconds)})


def from_status(status: int, headers: Mapping[str, str] | None = None) -> ApiError:
    """The envelope for what the web framework refuses by itself: unknown routes and methods."""
    if status == HTTPStatus.NOT_FOUND:
        return NotFound("There is no such URL.", code="unknown_url")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(headers=headers)
    error = InvalidRequest() if status < HTTPStatus.INTERNAL_SERVER_ERROR else ApiError()
    error.status = status
    return error
