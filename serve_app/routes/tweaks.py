"""One's own pictures, by id: how they came to be, what became of them, and going on from them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from fastapi import APIRouter
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from jobs.job import Job, Render, parse_image_id
from serve_app.orders.answering import respond
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.bodies import is_large, on_disk
from serve_app.orders.callers import charge_rows, context_of, orderer_of, poller_of
from serve_app.orders.pictures import finished, url
from serve_app.orders.placing import with_pictures
from serve_app.orders.responses import json_response
from serve_app.orders.sources import (
    Pictures,
    drawn,
    finished_image,
    in_turn,
    own_image,
    same_model,
)
from serve_app.orders.submission import check_order, check_read
from serve_app.wire import edits, requests
from serve_app.wire.jobs import ImageBody, LineageBody, image_body, listed
from serve_app.wire.operations import answer, of_image, operation, ordering


class _ImageId(StringConvertor):
    """Keeps the paths of pictures apart from those of /v1/images/edits and its like."""

    regex = "img_[^/]*"


register_url_convertor("image", _ImageId())
router = APIRouter()

MOST_ANCESTORS = 100
MOST_CHILDREN = 100


@router.post("/v1/images/{image_id:image}/tweaks")
@ordering("tweakImage", "image_edit")
async def tweaks(request: Request, image_id: str) -> Response:
    """Go on from an image that was drawn here: wait for the images, stream them, or get a job."""
    state = app_state_of(request)
    tenant = await orderer_of(request)
    limits = state.config.limits
    context = context_of(request, tenant)
    await check_order(state, context)
    most_bytes = limits.body_bytes + limits.image_bytes * 4 // 3 + 4
    async with (
        state.inputs.arriving(tenant.id, is_large(request, limits)),
        on_disk(request, limits, most_bytes) as file,
    ):
        order = await in_turn(
            state, tenant, lambda fetched: _order(state, context, image_id, file, fetched)
        )
    return await respond(request, order)


async def _order(
    state: AppState,
    context: requests.RequestContext,
    image_id: str,
    file: UploadFile,
    fetched: Mapping[str, bytes],
) -> requests.ImageOrder:
    """The edit, with its pictures stored. Raises ToFetch, and what is wrong with it."""
    tenant = context.tenant
    await file.seek(0)
    raw = await file.read()
    job, render = await own_image(state, tenant.id, image_id)
    most_bytes = state.config.limits.body_bytes
    body, words = await asyncio.to_thread(edits.parse_tweak, raw, job.request, most_bytes)
    named = context.models.named(body.model) if body.model else same_model(context.models, job)
    edits.check_pictures(1, "id", body.mask is not None, named.can)
    drawn_with = body.model_copy(update={"model": named.name})
    accepted = edits.edit_request(drawn_with, words, context)
    accepted = await asyncio.to_thread(requests.with_hash, accepted, body, f"tweaks {image_id}")
    await check_read(state, context, accepted)
    params = {"image": "id", "mask": "mask"}
    masks = {} if body.mask is None else {"mask": body.mask}
    image = await drawn(state, job, render, image_id)
    pictures = Pictures({"image": image, **masks}, params, fetched)
    accepted = await with_pictures(state, accepted, body, pictures)
    return requests.order_of(body, accepted)


@router.get("/v1/images/{image_id:image}")
@operation("getImage", {200: answer(ImageBody, **of_image("/id"))}, 404)
async def show(request: Request, image_id: str) -> Response:
    """How one of your images came to be."""
    tenant = await poller_of(request)
    job, render = await own_image(app_state_of(request), tenant.id, image_id)
    return json_response(image_body(job, render, _url(request, job, render)))


@router.get("/v1/images/{image_id:image}/lineage")
@operation("getLineage", {200: answer(LineageBody)}, 404)
async def lineage(request: Request, image_id: str) -> Response:
    """The images that an image was made from, the first one first, and those made from it."""
    tenant = await poller_of(request)
    state = app_state_of(request)
    job, render = await own_image(state, tenant.id, image_id)
    line = await state.ledger.ancestors(tenant.id, job.id, MOST_ANCESTORS)
    ancestors = [_shown(request, *image) for image in _images(job, line)]
    made = await state.ledger.children(tenant.id, job.id, MOST_CHILDREN)
    charge_rows(request, tenant, sum(1 + len(one.renders) for one in (*line, *made)))
    children = [
        _shown(request, child, one)
        for child in made
        if child.request.source is not None and child.request.source.parent == image_id
        for one in finished(child)
    ]
    body: LineageBody = {
        "object": "lineage",
        "id": image_id,
        "ancestors": ancestors[::-1],
        "image": _shown(request, job, render),
        "children": children[-MOST_CHILDREN:],
    }
    return json_response(body)


def _images(job: Job, line: Sequence[Job]) -> Iterator[tuple[Job, Render]]:
    """Of each ancestor the image from which the next one went on."""
    for before in line:
        source = job.request.source
        parsed = parse_image_id(source.parent) if source and source.parent else None
        if parsed is None:
            return
        yield before, finished_image(before, parsed[1])
        job = before


def _shown(request: Request, job: Job, render: Render) -> ImageBody:
    return listed(image_body(job, render, _url(request, job, render)))


def _url(request: Request, job: Job, render: Render) -> str | None:
    return None if render.blob is None else url(request, job, render)
