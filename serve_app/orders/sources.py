"""From what a client calls a picture to what an edit goes on from: found, checked, put on a canvas,
and stored."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from starlette.datastructures import UploadFile

from dispatch.identity import Identity
from engine.capabilities import Capabilities
from engine.provenance.manifest import may_hold_manifest
from engine.region import Region, scattered, to_hex
from jobs.blobs.store import BlobMissing
from jobs.files import StoredFile
from jobs.job import Job, Render, RenderState, parse_image_id
from jobs.request import ImageRequest, SourceImage, Tenant
from serve_app.config.errors import ConfigError
from serve_app.config.provenance import known_identity
from serve_app.orders.app_state import AppState
from serve_app.orders.bodies import content
from serve_app.orders.pictures import picture
from serve_app.wire.data_urls import data_of, is_data_url
from serve_app.wire.edits import (
    EditBody,
    ImageRef,
    TweakBody,
    passes_of,
    same_shape,
    strength_of,
    with_source,
)
from serve_app.wire.errors import ImageExpired, NotFound
from serve_app.wire.models import Models, ServedModel
from serve_app.wire.possible import Possible

DAY_SECONDS = 86_400.0
FILE_ID = re.compile(r"file-[0-9a-f]{32}")

Given = UploadFile | ImageRef
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FoundPicture:
    """A picture that a client named or sent."""

    data: bytes
    """As untrusted as they came."""
    size: tuple[int, int] | None = None
    """Where it is known."""
    parent: str | None = None
    """Image id of one that was drawn here."""
    tokens: bytes | None = None
    """Of one that was drawn here."""


class ToFetch(Exception):
    """Pictures are behind these URLs: by role, each with the parameter that names it."""

    def __init__(self, urls: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(urls)
        self.urls = urls


async def in_turn(
    state: AppState, tenant: Tenant, prepare: Callable[[Mapping[str, bytes]], Awaitable[T]]
) -> T:
    """What `prepare` makes of pictures that were fetched, at first of none, when it is the tenant's
    turn. It raises ToFetch when it needs some: these come before the next turn, in which it begins
    anew. Raises TooManyWaiting, InvalidRequest."""
    weight, remote = state.config.tiers[tenant.tier].weight, state.config.limits.remote_images
    try:
        async with state.inputs.turn(tenant.id, weight):
            return await prepare({})
    except ToFetch as missing:
        urls = missing.urls
    async with (
        state.remote_images.fetched(tenant.id, urls, remote) as fetched,
        state.inputs.turn(tenant.id, weight),
    ):
        return await prepare(fetched)


async def find_all(
    state: AppState,
    tenant: str,
    given: Mapping[str, Given],
    params: Mapping[str, str],
    fetched: Mapping[str, bytes],
) -> dict[str, FoundPicture]:
    """The pictures by role. Raises ToFetch for those that must be fetched and were not, and what
    `find` does."""
    urls = {
        role: (params[role], one.image_url)
        for role, one in given.items()
        if isinstance(one, ImageRef) and one.image_url and not is_data_url(one.image_url)
    }
    if urls.keys() - fetched.keys():
        raise ToFetch(urls)
    return {
        role: FoundPicture(fetched[role])
        if role in fetched
        else await find(state, tenant, one, params[role])
        for role, one in given.items()
    }


async def find(state: AppState, tenant: str, given: Given, param: str) -> FoundPicture:
    """A picture that needs not be fetched. Raises InvalidRequest, NotFound, ImageExpired, naming
    `param`."""
    if isinstance(given, UploadFile):
        return FoundPicture(await content(given, param, state.config.limits))
    if given.file_id is not None:
        return await _by_id(state, tenant, given.file_id, param)
    url, most_bytes = given.image_url or "", state.config.limits.image_bytes
    return FoundPicture(await asyncio.to_thread(data_of, url, param, most_bytes))


async def own_image(state: AppState, tenant: str, image_id: str) -> tuple[Job, Render]:
    """The tenant's drawn picture; another tenant's does not exist. Raises NotFound."""
    parsed = parse_image_id(image_id)
    job = await state.ledger.get(parsed[0]) if parsed else None
    if parsed is None or job is None or job.request.tenant != tenant:
        raise no_image()
    return job, finished_image(job, parsed[1])


def finished_image(job: Job, index: int) -> Render:
    """One of the job's drawn pictures. Raises NotFound."""
    for render in job.renders:
        if render.index == index and render.state is RenderState.SUCCEEDED:
            return render
    raise no_image()


async def drawn(state: AppState, job: Job, render: Render, image_id: str) -> FoundPicture:
    """That picture, to go on from. Raises ImageExpired."""
    if render.blob is None:
        raise ImageExpired
    try:
        data = await picture(state, render)
    except BlobMissing:
        raise ImageExpired from None
    size = (job.request.width, job.request.height)
    return FoundPicture(data, size, image_id, render.checkpoint)


async def with_canvas(
    state: AppState,
    request: ImageRequest,
    body: EditBody | TweakBody,
    found: Mapping[str, FoundPicture],
    params: Mapping[str, str],
) -> ImageRequest:
    """The request with its source, which is stored for as long as the job may need it. found:
    `image`, and where there are any `mask` and `markup`. Raises InvalidRequest."""
    model = state.models.named(request.model)
    can, image, files = model.can, found["image"], {name: one.data for name, one in found.items()}
    strength = strength_of(body, "mask" in files, can)
    redraw = _region(can, strength, request.seed)
    passes_of(request.passes, strength, redraw, can)  # refused before anything is decoded
    size, known = (request.width, request.height), image.size
    if body.size == "auto":
        if known is None:
            plain = await state.inputs.normalise(image.data, params["image"])
            files["image"], known = plain.png, (plain.width, plain.height)
        size = Possible(model, state.config.limits).bounds.nearest(*known)
    canvas = await state.inputs.canvas(
        files, params, size=size, small_size=can.drawn_size(*size), grid=can.grid
    )
    redraw = redraw if canvas.redraw is None else canvas.redraw
    pictures = {"canvas": canvas.canvas, "small": canvas.small}
    if await _has_history(state, image, params["image"]):
        pictures["original"] = image.data
    stored = await state.inputs.store(
        request.tenant,
        pictures,
        size,
        request.deadline_seconds + DAY_SECONDS,
    )
    source = SourceImage(
        canvas=stored.blobs[0],
        small=stored.blobs[1],
        redraw=to_hex(redraw),
        parent=image.parent,
        strength=strength,
        steps=request.passes if can.size_multiple else 0,
        original=stored.blobs[2] if "original" in pictures else None,
    )
    uncut = known is not None and same_shape(known, size) and not can.size_multiple
    if image.tokens is not None and uncut and "markup" not in files:
        source = replace(source, tokens=base64.b64encode(image.tokens).decode("ascii"))
    passes = passes_of(request.passes, strength, redraw, can)
    return with_source(request, source, passes, size, model.terms.pass_seconds)


def _region(can: Capabilities, strength: float, seed: int) -> Region:
    """What is drawn anew without a mask: some cells, or in families that draw pixels a little of
    everything."""
    if can.size_multiple:
        return np.ones(can.cells, np.bool_)
    return scattered(can.cells, strength, seed)


async def _has_history(state: AppState, image: FoundPicture, param: str) -> bool:
    """Whether the file's manifest goes along: a dispatcher reads it, so the picture was drawn here,
    or the file is as it was signed under a trusted anchor. Raises InvalidRequest."""
    if not state.config.provenance.manifest or not may_hold_manifest(image.data):
        return False
    if image.parent is not None:
        return True
    try:
        known = await asyncio.to_thread(known_identity, state.config.identity_files())
    except (ConfigError, OSError):
        return False
    checked = await state.inputs.check(image.data, param, Identity(anchors=known.anchors))
    return checked.manifest.state == "trusted"


async def editing_model(state: AppState, tenant: str, body: EditBody, image: Given) -> ServedModel:
    """Which model draws the edit: the one that is named, or that which drew the picture. Raises
    NotFound, NoModel."""
    models = state.models
    if body.model is None and isinstance(image, ImageRef) and len(models.all) > 1:
        parsed = parse_image_id(image.file_id or "")
        job = await state.ledger.get(parsed[0]) if parsed else None
        if job is not None and job.request.tenant == tenant:
            return same_model(models, job)
    return models.named(body.model)


def same_model(models: Models, job: Job) -> ServedModel:
    """The model that drew the job; where it is gone, the one that is meant by requests that name
    none. Raises NoModel."""
    return models.known(job.request.model) or models.named(None)


async def _by_id(state: AppState, tenant: str, file_id: str, param: str) -> FoundPicture:
    """A file of the tenant, or a picture that was drawn for it."""
    try:
        if file_id.startswith("img_"):
            job, render = await own_image(state, tenant, file_id)
            return await drawn(state, job, render, file_id)
        file = await own_file(state, tenant, file_id)
        data = await asyncio.to_thread(state.blobs.get, file.blobs[0])
        return FoundPicture(data, (file.width, file.height))
    except BlobMissing:
        raise no_file(param) from None
    except (NotFound, ImageExpired) as problem:
        problem.param = param
        raise


async def own_file(state: AppState, tenant: str, file_id: str) -> StoredFile:
    """The tenant's file; another tenant's does not exist. Raises NotFound."""
    known = FILE_ID.fullmatch(file_id)
    file = await state.ledger.file(tenant, file_id) if known else None
    if file is None:
        raise no_file()
    return file


def no_image() -> NotFound:
    """Of an unknown id, another tenant's, or one that is not drawn yet."""
    return NotFound("That image does not exist, or not yet.", code="image_not_found")


def no_file(param: str | None = None) -> NotFound:
    """Of an unknown id, or another tenant's."""
    return NotFound("There is no such file.", param=param, code="file_not_found")
