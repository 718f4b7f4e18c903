"""Answers of the service as failures of Temporal: what is tried again, and when. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from temporalio.exceptions import ApplicationError

UNREACHABLE = "unreachable"
LONGEST_WAIT = timedelta(days=2)
"""The day of a quota turns within 25 hours; what says more is no `retry-after` of ours."""
_TRY_AGAIN = frozenset({408, 425, 429})
_OF_STATE = {
    "blocked": "moderation_blocked",
    "failed": "render_failed",
    "cancelled": "job_cancelled",
    "expired": "job_expired",
}


def refused(status: int, headers: Mapping[str, str], body: Any, now: datetime) -> ApplicationError:
    """The failure of an answer that is no success. Its type is the error's code. Overload, quotas
    and errors of the service are tried again, no sooner than its `retry-after`; a refused prompt,
    an invalid request or a wrong key would be answered alike again. body: JSON, if it is any."""
    error = body.get("error") if isinstance(body, dict) else None
    known: dict[str, Any] = error if isinstance(error, dict) else {}
    code = str(known.get("code") or f"http_{status}")
    retryable = status in _TRY_AGAIN or status >= 500
    return ApplicationError(
        str(known.get("message") or f"The service answered with status {status}."),
        {"status": status, **known},
        type=code,
        non_retryable=not retryable,
        next_retry_delay=retry_after(headers, now) if retryable else None,
    )


def unreachable(error: httpx.TransportError) -> ApplicationError:
    """No answer: the order may have been accepted all the same, and the retry finds it then."""
    return ApplicationError(f"{type(error).__name__}: {error}", type=UNREACHABLE)


def undrawn(job: Mapping[str, Any]) -> ApplicationError:
    """The failure of a job that ended without a picture. Its key finds the same job again, so that
    a retry changes nothing."""
    errors = [image["error"] for image in job["images"] if image.get("error")]
    known = errors[0] if errors else {}
    code = str(known.get("code") or _OF_STATE.get(job["state"], "job_ended"))
    message = str(known.get("message") or f"The job {job['id']} is {job['state']}.")
    details = {"job_id": job["id"], "state": job["state"], **known}
    return ApplicationError(message, details, type=code, non_retryable=True)


def unbatched(batch: Mapping[str, Any]) -> ApplicationError:
    """The failure of a batch that was refused or cancelled elsewhere: its lines say why. What was
    drawn before that is in its output file."""
    wrong = (batch["errors"] or {"data": []})["data"]
    message = wrong[0]["message"] if wrong else f"The batch {batch['id']} is {batch['status']}."
    details = {name: batch[name] for name in ("id", "status", "output_file_id", "error_file_id")}
    code = f"batch_{batch['status']}"
    return ApplicationError(message, {**details, "errors": wrong[:10]}, type=code,
                            non_retryable=True)  # fmt: skip


def invalid(message: str, param: str) -> ApplicationError:
    """An order that is not sent at all."""
    details = {"code": "invalid_value", "param": param}
    return ApplicationError(
        f"{param}: {message}", details, type="invalid_value", non_retryable=True
    )


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110 10.2.3), up to LONGEST_WAIT; None if it says neither."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        seconds = float(said[:12])
    else:
        try:
            at = parsedate_to_datetime(said)
        except ValueError:
            return None
        seconds = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return timedelta(seconds=min(max(seconds, 0.0), LONGEST_WAIT.total_seconds()))
