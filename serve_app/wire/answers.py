"""Jobs as the Images API answers them: JSON, events, usage. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from typing_extensions import TypedDict

from jobs.job import Job, Render, image_id
from jobs.request import ImageRequest
from serve_app.wire.errors import ImageFailed, ProblemBody
from serve_app.wire.fields import Count, OutputFormat, PixelSize, Seconds, Url
from serve_app.wire.job_problems import render_problem

_WORD = re.compile(r"\w+|[^\w\s]")


class TokensBody(TypedDict):
    image_tokens: Count
    text_tokens: Count


class UsageBody(TypedDict):
    input_tokens: Count
    input_tokens_details: TokensBody
    output_tokens: Count
    output_tokens_details: TokensBody
    total_tokens: Count


class Looks(TypedDict):
    background: str
    output_format: OutputFormat
    quality: str
    size: PixelSize


class ImageKey(TypedDict):
    id: str
    image_index: Count
    seed: Count


class Revised(TypedDict, total=False):
    revised_prompt: str


class Content(TypedDict, total=False):
    b64_json: str
    url: Url


class Picture(ImageKey, Content, Revised):
    """One finished image."""


class LostImage(TypedDict):
    image_index: Count
    image_error: ProblemBody


class Orderer(TypedDict, total=False):
    safety_identifier: str


class MissingImages(TypedDict, total=False):
    errors: list[LostImage]


class ImagesBody(Looks, Orderer, MissingImages):
    """The images."""

    created: Seconds
    data: list[Picture]
    usage: UsageBody


class PartialEvent(Looks, ImageKey):
    """A preview of an image."""

    type: str
    b64_json: str
    created_at: Seconds
    partial_image_index: Count


class CompletedEvent(Looks, ImageKey, Revised, Orderer):
    """A finished image."""

    type: str
    b64_json: str
    created_at: Seconds
    usage: UsageBody


class FailedEvent(LostImage):
    """An image of several that will not come."""

    type: str


ImageEvent = PartialEvent | CompletedEvent | FailedEvent


def text_tokens(prompt: str) -> int:
    """Words and punctuation marks: an honest approximation, since the gateway has no tokenizer."""
    return len(_WORD.findall(prompt))


def redrawn(job: Job, index: int) -> str | None:
    """The cells of that image that were drawn anew, a bit each in hex; None where it changes no
    picture."""
    source = job.request.source
    return None if source is None else job.renders[index].redrawn or source.redraw


def cells_in(region: str) -> int:
    """How many cells `redrawn` names."""
    return int(region, 16).bit_count()


def usage(job: Job, images: Iterable[int], cells: int) -> UsageBody:
    """Usage of these finished images; an image counts the cells of its token grid that were drawn,
    and a picture that came in all of them."""
    request, seen = job.request, 0
    text = text_tokens(request.prompt) + text_tokens(request.negative_prompt or "")
    if request.source is not None:
        seen = request.source.images * cells
    regions = (redrawn(job, index) for index in images)
    made = sum(cells if region is None else cells_in(region) for region in regions)
    return {
        "input_tokens": text + seen,
        "input_tokens_details": {"image_tokens": seen, "text_tokens": text},
        "output_tokens": made,
        "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
        "total_tokens": text + seen + made,
    }


def without_input(used: UsageBody) -> UsageBody:
    """The same usage without what came in, for the further images of one request."""
    return {
        **used,
        "input_tokens": 0,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
        "total_tokens": used["output_tokens"],
    }


def looks(request: ImageRequest) -> Looks:
    """The fields that every picture, partial or final, is described with."""
    return {
        "background": request.background,
        "output_format": request.output_format,
        "quality": request.quality,
        "size": f"{request.width}x{request.height}",
    }


def images_response(job: Job, pictures: Mapping[int, Content], cells: int) -> ImagesBody:
    """ImagesResponse of an ended job. `pictures`: b64_json or url by image index.

    Extensions: `id`, `image_index` and `seed` beside each picture, and `errors` for images that
    have none because the safety system or a failure took them.
    """
    lost = [image_error(render) for render in job.renders if render.index not in pictures]
    missing: MissingImages = {"errors": lost} if lost else {}
    return {
        "created": int(job.created_at),
        **looks(job.request),
        "data": [
            {**pictures[index], **_revised(job, index), **_which(job, index)}
            for index in sorted(pictures)
        ],
        "usage": usage(job, pictures, cells),
        **_orderer(job.request),
        **missing,
    }


def event_type(request: ImageRequest, what: str) -> str:
    """ "image_generation.completed", or of an edit."""
    return f"{'image_generation' if request.source is None else 'image_edit'}.{what}"


def partial_event(job: Job, index: int, number: int, b64: str) -> PartialEvent:
    """...partial_image; `number` counts this image's previews from 0."""
    return {
        "type": event_type(job.request, "partial_image"),
        "b64_json": b64,
        "created_at": int(job.created_at),
        **looks(job.request),
        "partial_image_index": number,
        **_which(job, index),
    }


def completed_event(job: Job, index: int, b64: str, used: UsageBody) -> CompletedEvent:
    """...completed, one per image."""
    return {
        "type": event_type(job.request, "completed"),
        "b64_json": b64,
        "created_at": int(job.created_at),
        **looks(job.request),
        "usage": used,
        **_revised(job, index),
        **_which(job, index),
        **_orderer(job.request),
    }


def failed_event(job: Job, render: Render) -> FailedEvent:
    """One image of several will not come. A top-level `error` would end the SDK's stream."""
    return {"type": event_type(job.request, "failed"), **image_error(render)}


def _which(job: Job, index: int) -> ImageKey:
    seed = job.request.image_seed(index)
    return {"id": image_id(job.id, index), "image_index": index, "seed": seed}


def _revised(job: Job, index: int) -> Revised:
    """What the model says that it drew, else the words where they are not the client's own."""
    said = job.renders[index].revised_prompt
    if said is None and job.request.revised:
        said = job.request.prompt
    return {} if said is None else {"revised_prompt": said}


def _orderer(request: ImageRequest) -> Orderer:
    return {} if request.user is None else {"safety_identifier": request.user}


def image_error(render: Render) -> LostImage:
    """Why one image of several is missing."""
    problem = render_problem(render) or ImageFailed()
    return {"image_index": render.index, "image_error": problem.body()}
