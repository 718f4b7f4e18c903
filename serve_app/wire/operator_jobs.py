"""Jobs as operators see them: those of all tenants, and the life of one. Pure. Prompts stay with
their tenants."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from jobs.job import HELD, JobState, Render, RenderState
from jobs.operating import ALLOWED, FoundJob, JobAction, JobFilter, JobOrder, JobPage, JobPlace
from serve_app.wire.errors import NO_RETRY, ClientError, InvalidRequest
from serve_app.wire.fields import Count, PixelSize
from serve_app.wire.timeline import TimelineEvent, timeline

State = Annotated[str, Field(json_schema_extra={"enum": [*JobState]})]
PARAMETERS = frozenset(
    {"state", "tenant", "model", "queue", "slow", "failed_since", "limit", "cursor"}
)
_ENDED_BADLY = frozenset({JobState.FAILED, JobState.EXPIRED})


class NotInThisState(ClientError):
    """The job is in a state in which that cannot be done."""

    status = 409
    code = "illegal_transition"
    headers = NO_RETRY


class OperatorImage(TypedDict):
    index: Count
    state: Annotated[str, Field(json_schema_extra={"enum": [*RenderState]})]
    passes_done: Count
    attempts: Count
    stored: bool
    gpu_seconds: float | None
    joules: float | None
    stage: str | None
    categories: list[str]
    error: str | None


class OperatorJobBody(TypedDict):
    """The job; times are seconds since the epoch."""

    id: str
    object: Literal["operator.job"]
    state: State
    actions: list[Annotated[str, Field(json_schema_extra={"enum": [*JobAction]})]]
    tenant: str
    tier: str
    queue: str
    model: str
    size: PixelSize
    quality: str
    n: Count
    edit: bool
    passes_done: Count
    passes_total: Count
    created_at: float
    started_at: float | None
    finished_at: float | None
    deadline_at: float
    watched_until: float | None
    worker: str | None
    lease_until: float | None
    attempts: Count
    preemptions: Count
    cancel_requested: bool
    predicted_gpu_seconds: float
    gpu_seconds: float | None
    joules: float | None
    errors: list[str]
    images: list[OperatorImage]


class OperatorJobLifeBody(OperatorJobBody):
    """The job, and its life; times are seconds since the epoch."""

    timeline: list[TimelineEvent]


class OperatorJobsBody(TypedDict):
    """A page of jobs. It may hold fewer than `limit` where few are as asked: `next_cursor` goes on,
    and is null at the end."""

    object: Literal["list"]
    read_at: float
    order: Annotated[str, Field(json_schema_extra={"enum": [*JobOrder]})]
    data: list[OperatorJobBody]
    next_cursor: str | None


def job_body(found: FoundJob) -> OperatorJobBody:
    """One job, without its prompt."""
    job, request = found.job, found.job.request
    return {
        "id": job.id,
        "object": "operator.job",
        "state": job.state,
        "actions": [one for one in JobAction if job.state in ALLOWED[one]],
        "tenant": request.tenant,
        "tier": request.tier,
        "queue": request.lane,
        "model": request.model,
        "size": f"{request.width}x{request.height}",
        "quality": request.quality,
        "n": request.n,
        "edit": request.source is not None,
        "passes_done": sum(_passes_done(render, request.passes) for render in job.renders),
        "passes_total": request.passes * request.n,
        "created_at": round(job.created_at, 3),
        "started_at": _short(job.started_at),
        "finished_at": _short(job.finished_at),
        "deadline_at": round(job.deadline_at, 3),
        "watched_until": _short(job.watched_until),
        "worker": job.worker,
        "lease_until": _short(found.lease_until),
        "attempts": job.attempts,
        "preemptions": job.preemptions,
        "cancel_requested": job.cancel_requested,
        "predicted_gpu_seconds": round(request.cost_seconds, 3),
        "gpu_seconds": _sum(render.gpu_seconds for render in job.renders),
        "joules": _sum(render.joules for render in job.renders),
        "errors": list(job.errors),
        "images": [_image(render, request.passes) for render in job.renders],
    }


def life_body(found: FoundJob) -> OperatorJobLifeBody:
    """GET /v1/operator/jobs/{id}."""
    return {**job_body(found), "timeline": timeline(found.job)}


def _image(render: Render, passes: int) -> OperatorImage:
    return {
        "index": render.index,
        "state": render.state,
        "passes_done": _passes_done(render, passes),
        "attempts": render.attempts,
        "stored": render.blob is not None,
        "gpu_seconds": _short(render.gpu_seconds),
        "joules": _short(render.joules),
        "stage": render.stage,
        "categories": list(render.categories),
        "error": render.error,
    }


def _passes_done(render: Render, passes: int) -> int:
    return passes if render.state is RenderState.SUCCEEDED else render.pass_no


def _short(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _sum(numbers: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [number for number in numbers if number is not None]
    return round(sum(known), 3) if known else None


def jobs_body(page: JobPage, order: JobOrder) -> OperatorJobsBody:
    """GET /v1/operator/jobs."""
    return {
        "object": "list",
        "read_at": round(page.read_at, 3),
        "order": order,
        "data": [job_body(found) for found in page.found],
        "next_cursor": None if page.next is None else cursor_of(order, page.next),
    }


def job_filter(asked: Mapping[str, str], queue_of: Callable[[str], str]) -> JobFilter:
    """What the query of a list asks for. queue_of: of a model's name. Raises InvalidRequest, and
    what queue_of raises."""
    for name in asked.keys() - PARAMETERS:
        known = ", ".join(sorted(PARAMETERS))
        raise InvalidRequest(f"'{name}' is not a parameter; these are: {known}.", param=name)
    states = _states(asked["state"]) if "state" in asked else None
    tenant, since = asked.get("tenant"), asked.get("failed_since")
    queue = queue_of(asked["model"]) if "model" in asked else asked.get("queue")
    return JobFilter(
        order=_order(states, tenant, since, asked.get("slow")),
        states=states,
        tenant=tenant,
        queue=queue,
        since=None if since is None else _moment(since, "failed_since"),
    )


def _states(text: str) -> frozenset[JobState]:
    known = set(JobState)
    named = text.split(",")
    if unknown := [name for name in named if name not in known]:
        listed = ", ".join(JobState)
        raise InvalidRequest(f"'{unknown[0]}' is no state; these are: {listed}.", param="state")
    return frozenset(JobState(name) for name in named)


def _order(
    states: frozenset[JobState] | None, tenant: str | None, since: str | None, slow: str | None
) -> JobOrder:
    if slow is not None and slow not in (JobOrder.RUNNING, JobOrder.WAITING):
        raise InvalidRequest("'slow' must be running or waiting.", param="slow")
    if slow is not None and since is not None:
        raise InvalidRequest("'slow' and 'failed_since' exclude each other.", param="slow")
    if slow is not None or since is not None:
        return JobOrder.FAILED if slow is None else JobOrder(slow)
    if states is not None and states <= HELD:
        return JobOrder.RUNNING
    if states is None or tenant is not None:
        return JobOrder.NEWEST
    if states == {JobState.QUEUED}:
        return JobOrder.WAITING
    return JobOrder.FAILED if states <= _ENDED_BADLY else JobOrder.NEWEST


def _moment(text: str, name: str) -> float:
    """Seconds since the epoch."""
    if not re.fullmatch(r"[0-9]{1,11}(\.[0-9]{1,6})?", text):
        raise InvalidRequest(f"'{name}' must be seconds since the epoch.", param=name)
    return float(text)


def cursor_of(order: JobOrder, place: JobPlace) -> str:
    """Opaque to clients."""
    said = f"{order}/{place.key!r}/{place.seq}"
    return base64.urlsafe_b64encode(said.encode()).decode().rstrip("=")


def place_of(cursor: str | None, order: JobOrder) -> JobPlace | None:
    """The inverse, for the same order. Raises InvalidRequest."""
    if cursor is None:
        return None
    try:
        said = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        of_order, key, seq = said.split("/")
        place = JobPlace(float(key), int(seq))
    except (binascii.Error, ValueError):
        of_order, place = "", JobPlace(math.nan, 0)
    if of_order != order or not math.isfinite(place.key) or abs(place.seq) > 2**62:
        raise InvalidRequest("'cursor' is of no list that is ordered like this.", param="cursor")
    return place
