"""OpenAI's Batch API as JSON: what makes a batch, what its lines say, what comes back. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from jobs.batches import BatchLine, BatchRecord, BatchState, BatchWish, LineState
from serve_app.wire.errors import ApiError, InvalidRequest
from serve_app.wire.fields import Count, Seconds
from serve_app.wire.files import PageEnds
from serve_app.wire.json_body import read_json
from serve_app.wire.requests import as_invalid, check_text
from serve_app.wire.response_answers import ReasoningTokens

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
LEAST_OUTPUT_SECONDS, MOST_OUTPUT_SECONDS = 3_600, 2_592_000
MOST_LISTED = 100
CUSTOM_ID_CHARACTERS = 512
_LINE_FIELDS = frozenset({"custom_id", "method", "url", "body"})
MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class OutputExpiry(BaseModel):
    """How long the files of a batch are kept, from their creation on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=LEAST_OUTPUT_SECONDS, le=MOST_OUTPUT_SECONDS)]


class NewBatch(BaseModel):
    """The JSON body of POST /v1/batches."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    input_file_id: str
    endpoint: Literal["/v1/images/generations", "/v1/images/edits"]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    output_expires_after: OutputExpiry | None = None


class WrongLine(TypedDict):
    code: str
    line: int | None
    message: str
    param: str | None


class WrongLines(TypedDict):
    object: Literal["list"]
    data: list[WrongLine]


class RequestCounts(TypedDict):
    total: Count
    completed: Count
    failed: Count


class BatchCachedTokens(TypedDict):
    cached_tokens: Count


class BatchUsageBody(TypedDict):
    input_tokens: Count
    input_tokens_details: BatchCachedTokens
    output_tokens: Count
    output_tokens_details: ReasoningTokens
    total_tokens: Count


class BatchBody(TypedDict):
    """The batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: WrongLines | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Annotated[str, Field(json_schema_extra={"enum": [str(one) for one in BatchState]})]
    output_file_id: str | None
    error_file_id: str | None
    created_at: Seconds
    in_progress_at: Seconds | None
    expires_at: Seconds
    finalizing_at: Seconds | None
    completed_at: Seconds | None
    failed_at: Seconds | None
    expired_at: Seconds | None
    cancelling_at: Seconds | None
    cancelled_at: Seconds | None
    request_counts: RequestCounts
    usage: BatchUsageBody | None
    metadata: dict[str, str] | None


class BatchesBody(PageEnds):
    """The batches, newest first."""

    object: Literal["list"]
    data: list[BatchBody]
    has_more: bool


def parse_batch(raw: bytes, most_bytes: int, kept_seconds: float) -> BatchWish:
    """kept_seconds: of its files, where it does not say. Raises InvalidRequest, naming the
    field."""
    said = read_json(raw, most_bytes)
    check_text(said.items())
    try:
        body = NewBatch.model_validate(said)
    except ValidationError as error:
        raise as_invalid(error, {}) from None
    metadata = body.metadata or {}
    check_text((f"metadata.{name}", value) for name, value in metadata.items())
    expiry = body.output_expires_after
    canonical = json.dumps(["batches", body.model_dump(exclude_unset=True)], sort_keys=True)
    return BatchWish(
        input_file=body.input_file_id,
        endpoint=body.endpoint,
        metadata=metadata,
        output_seconds=kept_seconds if expiry is None else float(expiry.seconds),
        body_hash=hashlib.sha256(canonical.encode()).hexdigest(),
    )


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """What a line says; its body is not checked yet."""

    custom_id: str
    body: Mapping[str, Any]


def parse_line(raw: bytes, endpoint: str, most_bytes: int) -> ParsedLine:
    """most_bytes: of the line beside its pictures. Raises InvalidRequest, naming the field."""
    try:
        said = read_json(raw, most_bytes)
    except ApiError as error:
        message = "This line is not a JSON object of at most so many bytes and fields as a request."
        raise InvalidRequest(message, code="invalid_json_line") from error
    check_text(said.items())
    for name in sorted(said.keys() - _LINE_FIELDS):
        message = f"Unknown parameter: '{name}'."
        raise InvalidRequest(message, param=name, code="unknown_parameter")
    for name in sorted(_LINE_FIELDS - said.keys()):
        message = f"Missing required parameter: '{name}'."
        raise InvalidRequest(message, param=name, code="missing_required_parameter")
    custom_id, body = said["custom_id"], said["body"]
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= CUSTOM_ID_CHARACTERS:
        message = (
            f"Invalid value for 'custom_id': a text of 1 to {CUSTOM_ID_CHARACTERS} characters."
        )
        raise InvalidRequest(message, param="custom_id", code="invalid_custom_id")
    if said["method"] != "POST":
        message = "Invalid value for 'method': must be 'POST'."
        raise InvalidRequest(message, param="method", code="invalid_method")
    if said["url"] != endpoint:
        message = f"Invalid value for 'url': must be the endpoint of the batch, '{endpoint}'."
        raise InvalidRequest(message, param="url", code="invalid_url")
    if not isinstance(body, dict):
        message = "Invalid value for 'body': must be a JSON object."
        raise InvalidRequest(message, param="body", code="invalid_type")
    if body.get("stream"):
        message = "Unsupported parameter: 'stream': the answers of a batch are in its output file."
        raise InvalidRequest(message, param="body.stream", code="unsupported_parameter")
    return ParsedLine(custom_id, {name: one for name, one in body.items() if one is not None})


def in_body(problem: ApiError) -> ApiError:
    """The same problem of a line's body: its parameter stands in `body`."""
    if problem.param is not None and not problem.param.startswith("body"):
        problem.param = f"body.{problem.param}"
    return problem


def wrong_line(line: int | None, problem: ApiError) -> WrongLine:
    """As it stands in a batch that was refused."""
    return {
        "code": problem.code or "invalid_value",
        "line": line,
        "message": problem.message,
        "param": problem.param,
    }


def batch_body(batch: BatchRecord) -> BatchBody:
    """OpenAI's Batch object."""

    def at(state: BatchState) -> int | None:
        moment = batch.stamps.get(f"{state}_at")
        return None if moment is None else int(moment)

    wrong: list[WrongLine] = [
        {"code": e["code"], "line": e["line"], "message": e["message"], "param": e["param"]}
        for e in batch.errors
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.wish.endpoint,
        "model": batch.model,
        "errors": {"object": "list", "data": wrong} if wrong else None,
        "input_file_id": batch.wish.input_file,
        "completion_window": "24h",
        "status": str(batch.state),
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": int(batch.created_at),
        "in_progress_at": at(BatchState.IN_PROGRESS),
        "expires_at": int(batch.expires_at),
        "finalizing_at": at(BatchState.FINALIZING),
        "completed_at": at(BatchState.COMPLETED),
        "failed_at": at(BatchState.FAILED),
        "expired_at": at(BatchState.EXPIRED),
        "cancelling_at": at(BatchState.CANCELLING),
        "cancelled_at": at(BatchState.CANCELLED),
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "usage": _usage(batch),
        "metadata": dict(batch.wish.metadata) or None,
    }


def _usage(batch: BatchRecord) -> BatchUsageBody | None:
    if not batch.ended:
        return None
    return {
        "input_tokens": batch.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": batch.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": batch.input_tokens + batch.output_tokens,
    }


def batches_body(found: Sequence[BatchRecord], limit: int) -> BatchesBody:
    """A page of `limit` batches at most; when one more was found, the page says so."""
    page = [batch_body(one) for one in found[:limit]]
    ends: PageEnds = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {}
    return {"object": "list", "data": page, **ends, "has_more": len(found) > len(page)}


def result(batch_id: str, line: BatchLine, status: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a file of results: what its request was answered with."""
    response = {
        "status_code": status,
        "request_id": line.job_id or _result_id(batch_id, line),
        "body": body,
    }
    return _named(batch_id, line) | {"response": response, "error": None}


def undone(batch_id: str, line: BatchLine) -> dict[str, Any]:
    """A line of an error file: its request was not drawn."""
    code, message = {
        LineState.CANCELLED: ("batch_cancelled", "This batch was cancelled before this request."),
        LineState.EXPIRED: (
            "batch_expired",
            "This request could not be executed before the completion window expired.",
        ),
    }[line.state]
    error = {"code": code, "message": message}
    return _named(batch_id, line) | {"response": None, "error": error}


def _named(batch_id: str, line: BatchLine) -> dict[str, Any]:
    return {"id": _result_id(batch_id, line), "custom_id": line.custom_id}


def _result_id(batch_id: str, line: BatchLine) -> str:
    return f"batch_req_{batch_id.removeprefix('batch_')}{line.line:05}"


BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
