"""Jobs and their images as JSON: our extension of the Images API. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from jobs.job import Job, JobState, Render, RenderState, image_id
from jobs.request import ImageRequest
from serve_app.wire.answers import Looks, cells_in, looks, redrawn
from serve_app.wire.errors import ProblemBody
from serve_app.wire.fields import Count, OutputFormat, Seconds, Url
from serve_app.wire.job_problems import render_problem
from serve_app.wire.loras import DrawnWith, drawn_with

LISTED_CHARACTERS = 1_000
"""Of a prompt in a list."""


class JobImage(TypedDict):
    id: str
    index: Count
    state: Annotated[str, Field(json_schema_extra={"enum": [*RenderState]})]
    seed: Count
    passes_done: Count
    passes_total: Count
    previews: list[Count]
    url: Url | None
    error: ProblemBody | None


class Estimate(TypedDict, total=False):
    eta_seconds: float


class Avoided(TypedDict, total=False):
    negative_prompt: str


class JobBody(Looks, Avoided, DrawnWith, Estimate):
    """The job."""

    id: str
    object: Literal["job"]
    state: Annotated[str, Field(json_schema_extra={"enum": [*JobState]})]
    created_at: Seconds
    started_at: Seconds | None
    finished_at: Seconds | None
    model: str
    prompt: str
    n: Count
    seed: Count
    queue_position: Count | None
    passes_done: Count
    passes_total: Count
    images: list[JobImage]


class JobsBody(TypedDict):
    """The jobs, newest first, with the beginnings of their prompts."""

    object: Literal["list"]
    data: list[JobBody]


PreviewEvent = TypedDict(
    "PreviewEvent",
    {
        "job_id": str,
        "index": Count,
        "pass": Count,
        "passes_total": Count,
        "output_format": OutputFormat,
        "b64_json": str,
    },
)


class Redrawn(TypedDict, total=False):
    redraw: Annotated[str, Field(pattern="^[0-9a-f]+$")]
    cells_redrawn: Count


class ImageBody(Looks, Avoided, DrawnWith, Redrawn):
    """The image, and how it came to be."""

    id: str
    object: Literal["image"]
    created_at: Seconds
    job_id: str
    image_index: Count
    model: str
    prompt: str
    seed: Count
    parent: str | None
    url: Url | None


class LineageBody(TypedDict):
    """The images that it was made from, and those made from it."""

    object: Literal["lineage"]
    id: str
    ancestors: list[ImageBody]
    image: ImageBody
    children: list[ImageBody]


def preview_event(job: Job, index: int, pass_no: int, b64: str) -> PreviewEvent:
    """A preview in the events of a job."""
    return {
        "job_id": job.id,
        "index": index,
        "pass": pass_no,
        "passes_total": job.request.passes,
        "output_format": job.request.output_format,
        "b64_json": b64,
    }


def job_body(
    job: Job,
    position: int | None,
    urls: Mapping[int, str],
    eta_seconds: float | None = None,
) -> JobBody:
    """A job as GET /v1/jobs/{id} shows it. `urls`: of finished images by index. An
    unknown ETA is left out."""
    request = job.request
    estimate: Estimate = {} if eta_seconds is None else {"eta_seconds": round(eta_seconds, 1)}
    return {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "created_at": int(job.created_at),
        "started_at": _whole(job.started_at),
        "finished_at": _whole(job.finished_at),
        "model": request.model,
        "prompt": request.prompt,
        **_avoided(request),
        **drawn_with(request),
        "n": request.n,
        **looks(request),
        "seed": request.seed,
        "queue_position": position,
        **estimate,
        "passes_done": sum(_passes_done(job, render) for render in job.renders),
        "passes_total": request.passes * request.n,
        "images": [_image_of(job, render, urls.get(render.index)) for render in job.renders],
    }


Prompted = TypeVar("Prompted", JobBody, ImageBody)


def listed(body: Prompted) -> Prompted:
    """The same in a list: long prompts are cut, since a hundred of them are megabytes."""
    cut = body.copy()
    cut["prompt"] = body["prompt"][:LISTED_CHARACTERS]
    if "negative_prompt" in body:
        cut["negative_prompt"] = body["negative_prompt"][:LISTED_CHARACTERS]
    return cut


def image_body(job: Job, render: Render, url: str | None) -> ImageBody:
    """A drawn picture as GET /v1/images/{id} shows it: how it came to be. A `url` of null: it is
    kept no longer."""
    request, source = job.request, job.request.source
    region, changed = redrawn(job, render.index), Redrawn()
    if region is not None:
        changed = {"redraw": region, "cells_redrawn": cells_in(region)}
    return {
        "id": image_id(job.id, render.index),
        "object": "image",
        "created_at": int(job.created_at),
        "job_id": job.id,
        "image_index": render.index,
        "model": request.model,
        "prompt": request.prompt,
        **_avoided(request),
        **drawn_with(request),
        **looks(request),
        "seed": request.image_seed(render.index),
        "parent": source.parent if source else None,
        "url": url,
        **changed,
    }


def _avoided(request: ImageRequest) -> Avoided:
    negative = request.negative_prompt
    return {} if negative is None else {"negative_prompt": negative}


def _image_of(job: Job, render: Render, url: str | None) -> JobImage:
    problem = render_problem(render)
    return {
        "id": image_id(job.id, render.index),
        "index": render.index,
        "state": render.state,
        "seed": job.request.image_seed(render.index),
        "passes_done": _passes_done(job, render),
        "passes_total": job.request.passes,
        "previews": sorted(render.previews),
        "url": url,
        "error": problem.body() if problem else None,
    }


def _passes_done(job: Job, render: Render) -> int:
    return job.request.passes if render.state is RenderState.SUCCEEDED else render.pass_no


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
