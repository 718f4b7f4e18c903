"""Responses as the Responses API answers them, made of their jobs alone. Pure.

A response has no life of its own: its id is its job's, its status follows from the job's state, and
what a client sent and is told again (`metadata`, `tools`, the input) is in the job's request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

from jobs.job import HELD, Job, JobState, image_id, parse_image_id, response_id
from jobs.request import ResponseOrder
from serve_app.wire.answers import Looks, UsageBody, looks, usage
from serve_app.wire.errors import ApiError, ProblemBody
from serve_app.wire.fields import Count, Seconds
from serve_app.wire.job_problems import job_problem

CALL: Final = "image_generation_call"
_CALL_ID = re.compile(r"ig_([0-9a-f]{32})")
_RESPONSE_ID = re.compile(r"resp_([0-9a-f]{32})")
Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
CallStatus = Literal["in_progress", "generating", "completed", "failed"]
_STATUS: Mapping[JobState, Status] = {
    **dict.fromkeys(HELD, "in_progress"),
    JobState.QUEUED: "queued",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.BLOCKED: "failed",
    JobState.EXPIRED: "failed",
    JobState.CANCELLED: "cancelled",
}


class FailedCall(TypedDict, total=False):
    error: ProblemBody


class ImageCallBody(Looks, FailedCall):
    id: str
    type: Literal["image_generation_call"]
    status: CallStatus
    result: str | None
    action: Literal["generate", "edit"]
    revised_prompt: str


class ResponseProblemBody(TypedDict):
    code: Literal["server_error", "image_content_policy_violation"]
    message: str
    type: str
    param: str | None


class CachedTokens(TypedDict):
    cached_tokens: Count
    cache_write_tokens: Count


class ReasoningTokens(TypedDict):
    reasoning_tokens: Count


class LanguageUsageBody(TypedDict):
    input_tokens: Count
    input_tokens_details: CachedTokens
    output_tokens: Count
    output_tokens_details: ReasoningTokens
    total_tokens: Count


class Searches(TypedDict):
    num_requests: Count


class ToolUsageBody(TypedDict):
    image_gen: UsageBody
    web_search: Searches


class ResponseBody(TypedDict):
    """The response."""

    id: str
    object: Literal["response"]
    created_at: Seconds
    completed_at: Seconds | None
    status: Status
    background: bool
    error: ResponseProblemBody | None
    incomplete_details: None
    instructions: None
    model: str
    output: list[ImageCallBody]
    previous_response_id: str | None
    store: bool
    metadata: dict[str, str]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    temperature: float | None
    top_p: float | None
    top_logprobs: Count | None
    max_output_tokens: Count | None
    max_tool_calls: Count | None
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    text: dict[str, Any]
    truncation: str
    usage: LanguageUsageBody | None
    tool_usage: NotRequired[ToolUsageBody]
    safety_identifier: str | None


class InputMessageBody(TypedDict):
    id: str
    type: Literal["message"]
    role: str
    status: Literal["completed"]
    content: list[dict[str, Any]]


class InputCallBody(TypedDict):
    id: str
    type: Literal["image_generation_call"]
    status: Literal["completed"]
    result: None


class InputItemsBody(TypedDict):
    """The items of the input."""

    object: Literal["list"]
    data: list[InputMessageBody | InputCallBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedResponseBody(TypedDict):
    """It is gone."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


def job_of_response(text: str) -> str | None:
    """Its job's id, or None for what `response_id` never makes."""
    match = _RESPONSE_ID.fullmatch(text)
    return match[1] if match else None


def image_of_call(call_id: str) -> str | None:
    """Id of the image that a call drew; None for what is no id of a call or an image."""
    if match := _CALL_ID.fullmatch(call_id):
        return image_id(match[1], 0)
    return call_id if parse_image_id(call_id) else None


def call_id(job_id: str) -> str:
    """Id of the call that a job is."""
    return f"ig_{job_id}"


def status_of(job: Job) -> Status:
    """A foreground response is in progress from the beginning."""
    status = _STATUS[job.state]
    return "in_progress" if status == "queued" and not order_of(job).background else status


def order_of(job: Job) -> ResponseOrder:
    """How it came. ValueError for a job that did not come as a response."""
    if job.request.response is None:
        raise ValueError(f"job {job.id} is no response")
    return job.request.response


def is_begun(job: Job) -> bool:
    """Whether its call has begun, or did before it ended."""
    return job.state in HELD or job.state in (
        JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED,
    )  # fmt: skip


def is_drawn(job: Job) -> bool:
    """Whether some of its picture was drawn."""
    return job.state is JobState.SUCCEEDED or any(render.pass_no for render in job.renders)


def image_call(job: Job, picture: str | None) -> ImageCallBody:
    """The call as it stands. picture: in base64."""
    problem = job_problem(job) if job.ended and job.state is not JobState.SUCCEEDED else None
    status: CallStatus = "generating" if is_drawn(job) else "in_progress"
    if job.ended:
        status = "completed" if job.state is JobState.SUCCEEDED else "failed"
    failed: FailedCall = {} if problem is None else {"error": problem.body()}
    return {
        "id": call_id(job.id),
        "type": CALL,
        "status": status,
        "result": picture,
        "action": "generate" if job.request.source is None else "edit",
        **looks(job.request),
        "revised_prompt": job.renders[0].revised_prompt or job.request.prompt,
        **failed,
    }


def response_body(
    job: Job, output: list[ImageCallBody], cells: int, status: Status | None = None
) -> ResponseBody:
    """The response with that output. cells: of a whole picture of the model. status: where it is
    not the job's own, that of a moment before."""
    order, status = order_of(job), status or status_of(job)
    said = json.loads(order.said)
    over = status not in ("queued", "in_progress")
    problem = job_problem(job) if status == "failed" else None
    done = job.finished_at if status == "completed" else None
    body: ResponseBody = {
        "id": response_id(job.id),
        "object": "response",
        "created_at": int(job.created_at),
        "completed_at": None if done is None else int(done),
        "status": status,
        "background": order.background,
        "error": None if problem is None else _problem_of(job, problem),
        "incomplete_details": None,
        "instructions": None,
        "model": said.get("model", job.request.model),
        "output": output,
        "previous_response_id": order.previous,
        "store": order.stored,
        "metadata": said.get("metadata", {}),
        "tools": said["tools"],
        "tool_choice": said.get("tool_choice", "auto"),
        "parallel_tool_calls": said.get("parallel_tool_calls", True),
        "temperature": said.get("temperature"),
        "top_p": said.get("top_p"),
        "top_logprobs": said.get("top_logprobs"),
        "max_output_tokens": said.get("max_output_tokens"),
        "max_tool_calls": said.get("max_tool_calls"),
        "prompt_cache_key": said.get("prompt_cache_key"),
        "reasoning": said.get("reasoning", {}),
        "text": said.get("text", {"format": {"type": "text"}}),
        "truncation": said.get("truncation", "disabled"),
        "usage": _no_language() if over else None,
        "safety_identifier": job.request.user,
    }
    if over:
        drawn = (0,) if status == "completed" else ()
        searches: Searches = {"num_requests": 0}
        body["tool_usage"] = {
            "image_gen": usage(job, drawn, cells),
            "web_search": searches,
        }
    return body


def _problem_of(job: Job, problem: ApiError) -> ResponseProblemBody:
    """With a code that official clients know; the call says more."""
    blocked = job.state is JobState.BLOCKED
    return {
        "code": "image_content_policy_violation" if blocked else "server_error",
        "message": problem.message,
        "type": problem.type,
        "param": problem.param,
    }


def _no_language() -> LanguageUsageBody:
    """A response's own usage is that of its language model, and there is none: what a picture took
    is in `tool_usage`."""
    return {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }


def input_items(job: Job) -> list[InputMessageBody | InputCallBody]:
    """What was said in this turn, in order."""
    items: list[dict[str, Any]] = json.loads(order_of(job).said)["input"]
    return [_listed(job, number, item) for number, item in enumerate(items)]


def _listed(job: Job, number: int, item: dict[str, Any]) -> InputMessageBody | InputCallBody:
    if item["type"] == CALL:
        return {"id": item["id"], "type": CALL, "status": "completed", "result": None}
    return {
        "id": f"msg_{job.id}_{number}",
        "type": "message",
        "role": item["role"],
        "status": "completed",
        "content": item["content"],
    }
