"""Every error that a client can see; domain_errors.py has the one table from domain errors to them.

The OpenAI SDK retries 408, 409, 429 and >= 500 unless `x-should-retry` says otherwise: 409 is
therefore used for operators alone, and what is permanent says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

NO_RETRY = {"x-should-retry": "false"}


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
    # A failover of the database may take fifteen seconds, and the official clients try twice more.
    headers = {"retry-after": "8"}


class PicturesAway(ApiError):
    """Pictures cannot be read or stored just now. What was accepted goes on; please try again."""

    status = 503
    code = "store_unavailable"
    headers = {"retry-after": "2"}


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
