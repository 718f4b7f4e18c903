"""Jobs as the Images API answers them: JSON, events, usage. Pure, as wire.py is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jobs.job import Job, Render
from jobs.job_ids import image_id
from jobs.request import ImageRequest
from serve_app.wire.job_problems import render_problem

_WORD = re.compile(r"\w+|[^\w\s]")


def text_tokens(prompt: str) -> int:
    """Words and punctuation marks: an honest approximation, since the gateway has no tokenizer."""
    return len(_WORD.findall(prompt))


def usage(request: ImageRequest, images: int, cells: int) -> dict[str, Any]:
    """Usage of `images` finished images; an image counts the cells of its token grid that were
    drawn, and a picture that came in all of them."""
    text, seen, drawn = text_tokens(request.prompt), 0, cells
    if request.source is not None:
        seen = request.source.images * cells
        drawn = int(request.source.redraw, 16).bit_count()
    made = images * drawn
    return {
        "input_tokens": text + seen,
        "input_tokens_details": {"image_tokens": seen, "text_tokens": text},
        "output_tokens": made,
        "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
        "total_tokens": text + seen + made,
    }


def without_input(used: Mapping[str, Any]) -> dict[str, Any]:
    """The same usage without what came in, for the further images of one request."""
    return {
        **used,
        "input_tokens": 0,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
        "total_tokens": used["output_tokens"],
    }


def looks(request: ImageRequest) -> dict[str, str]:
    """The fields that every picture, partial or final, is described with."""
    return {
        "background": request.background,
        "output_format": request.output_format,
        "quality": request.quality,
        "size": f"{request.width}x{request.height}",
    }


def images_response(
    job: Job, pictures: Mapping[int, Mapping[str, str]], cells: int
) -> dict[str, Any]:
    """ImagesResponse of an ended job. `pictures`: b64_json or url by image index.

    Extensions: `id`, `image_index` and `seed` beside each picture, and `errors` for images that
    have none because the safety system or a failure took them.
    """
    body: dict[str, Any] = {
        "created": int(job.created_at),
        **looks(job.request),
        "data": [
            {**pictures[index], **_revised(job.request), **_which(job, index)}
            for index in sorted(pictures)
        ],
        "usage": usage(job.request, len(pictures), cells),
    }
    if job.request.user is not None:
        body["safety_identifier"] = job.request.user
    errors = [image_error(render) for render in job.renders if render.index not in pictures]
    if errors:
        body["errors"] = errors
    return body


def event_type(request: ImageRequest, what: str) -> str:
    """ "image_generation.completed", or of an edit."""
    return f"{'image_generation' if request.source is None else 'image_edit'}.{what}"


def partial_event(job: Job, index: int, number: int, b64: str) -> dict[str, Any]:
    """...partial_image; `number` counts this image's previews from 0."""
    return {
        "type": event_type(job.request, "partial_image"),
        "b64_json": b64,
        "created_at": int(job.created_at),
        **looks(job.request),
        "partial_image_index": number,
        **_which(job, index),
    }


def completed_event(job: Job, index: int, b64: str, used: Mapping[str, Any]) -> dict[str, Any]:
    """...completed, one per image."""
    event: dict[str, Any] = {
        "type": event_type(job.request, "completed"),
        "b64_json": b64,
        "created_at": int(job.created_at),
        **looks(job.request),
        "usage": used,
        **_revised(job.request),
        **_which(job, index),
    }
    if job.request.user is not None:
        event["safety_identifier"] = job.request.user
    return event


def failed_event(job: Job, render: Render) -> dict[str, Any]:
    """One image of several will not come. A top-level `error` would end the SDK's stream."""
    return {"type": event_type(job.request, "failed"), **image_error(render)}


def _which(job: Job, index: int) -> dict[str, Any]:
    seed = job.request.image_seed(index)
    return {"id": image_id(job.id, index), "image_index": index, "seed": seed}


def _revised(request: ImageRequest) -> dict[str, str]:
    return {"revised_prompt": request.prompt} if request.revised else {}


def image_error(render: Render) -> dict[str, Any]:
    """Why one image of several is missing."""
    problem = render_problem(render)
    return {"image_index": render.index, "image_error": problem.body() if problem else {}}
