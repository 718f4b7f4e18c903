"""A job as JSON: our extension of the Images API. Pure, as wire.py is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.job import Job, Render, RenderState
from jobs.job_ids import image_id
from serve_app.wire.answers import looks
from serve_app.wire.job_problems import render_problem

LISTED_CHARACTERS = 1_000
"""Of a prompt in a list."""


def preview_event(job: Job, index: int, pass_no: int, b64: str) -> dict[str, Any]:
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
) -> dict[str, Any]:
    """A job as GET /v1/jobs/{id} shows it. `urls`: of finished images by index. An ETA that nobody
    can know is left out."""
    request = job.request
    return {
        "id": job.id,
        "object": "job",
        "state": job.state.value,
        "created_at": int(job.created_at),
        "started_at": _whole(job.started_at),
        "finished_at": _whole(job.finished_at),
        "model": request.model,
        "prompt": request.prompt,
        "n": request.n,
        **looks(request),
        "seed": request.seed,
        "queue_position": position,
        **({} if eta_seconds is None else {"eta_seconds": round(eta_seconds, 1)}),
        "passes_done": sum(_passes_done(job, render) for render in job.renders),
        "passes_total": request.passes * request.n,
        "images": [_image_body(job, render, urls.get(render.index)) for render in job.renders],
    }


def listed(body: dict[str, Any]) -> dict[str, Any]:
    """The same in a list: a long prompt is cut, since a hundred of them are megabytes."""
    return {**body, "prompt": body["prompt"][:LISTED_CHARACTERS]}


def image_body(job: Job, render: Render, url: str | None) -> dict[str, Any]:
    """A drawn picture as GET /v1/images/{id} shows it: how it came to be. A `url` of null: it is
    kept no longer."""
    request, source = job.request, job.request.source
    body = {
        "id": image_id(job.id, render.index),
        "object": "image",
        "created_at": int(job.created_at),
        "job_id": job.id,
        "image_index": render.index,
        "model": request.model,
        "prompt": request.prompt,
        **looks(request),
        "seed": request.image_seed(render.index),
        "parent": source.parent if source else None,
        "url": url,
    }
    if source is not None:  # the cells that were drawn anew, a bit each
        body |= {"redraw": source.redraw, "cells_redrawn": int(source.redraw, 16).bit_count()}
    return body


def _image_body(job: Job, render: Render, url: str | None) -> dict[str, Any]:
    problem = render_problem(render)
    return {
        "id": image_id(job.id, render.index),
        "index": render.index,
        "state": render.state.value,
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
