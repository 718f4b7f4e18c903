"""Edits, from a body that was read to an order: its pictures are checked, put on a canvas or kept
to be looked at, and stored."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from dispatch.identity import Identity, IdentityUnusable, known_identity
from engine.capabilities import Capabilities
from engine.provenance.manifest import may_hold_manifest
from engine.region import Region, scattered, to_hex
from jobs.request import REFERENCE_PICTURES, ImageRequest, SourceImage
from serve_app.orders.app_state import AppState
from serve_app.orders.sources import COMPANIONS, FoundPicture, Given, Pictures, editing_model
from serve_app.wire import edits, requests
from serve_app.wire.edits import (
    EditBody,
    TweakBody,
    passes_of,
    same_shape,
    strength_of,
    with_source,
)
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.models import ServedModel
from serve_app.wire.possible import Possible

DAY_SECONDS = 86_400.0
Check = Callable[[ImageRequest], Awaitable[None]]


async def with_pictures(
    state: AppState, request: ImageRequest, body: EditBody | TweakBody, pictures: Pictures
) -> ImageRequest:
    """The request with its source, which is stored for as long as the job may need it. Raises
    ToFetch, InvalidRequest, NotFound, ImageExpired."""
    pictures.check_fetched()
    model = state.models.named(request.model)
    with_source_of = _with_references if model.can.looks else _with_canvas
    return await with_source_of(state, request, body, pictures, model)


async def _with_canvas(
    state: AppState,
    request: ImageRequest,
    body: EditBody | TweakBody,
    pictures: Pictures,
    model: ServedModel,
) -> ImageRequest:
    """A picture that is changed."""
    can, params, tenant = model.can, pictures.params, request.tenant
    found = {role: await pictures.find(state, tenant, role) for role in pictures.given}
    image, files = found["image"], {name: one.data for name, one in found.items()}
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
    kept = {"canvas": canvas.canvas, "small": canvas.small}
    if await _has_history(state, image, params["image"]):
        kept["original"] = image.data
    stored = await state.inputs.store(
        request.tenant,
        kept,
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
        original=stored.blobs[2] if "original" in kept else None,
    )
    uncut = known is not None and same_shape(known, size) and not can.size_multiple
    if image.tokens is not None and uncut and "markup" not in files:
        source = replace(source, tokens=base64.b64encode(image.tokens).decode("ascii"))
    passes = passes_of(request.passes, strength, redraw, can)
    return with_source(request, source, passes, size, model.terms.pass_seconds)


async def _has_history(state: AppState, image: FoundPicture, param: str) -> bool:
    """Whether the file's manifest goes along: a dispatcher reads it, so the picture was drawn here,
    or the file is as it was signed under a trusted anchor. Raises InvalidRequest."""
    if not state.config.provenance.manifest or not may_hold_manifest(image.data):
        return False
    if image.parent is not None:
        return True
    try:
        known = await asyncio.to_thread(known_identity, state.config.identity_files())
    except (IdentityUnusable, OSError):
        return False
    checked = await state.inputs.check(image.data, param, Identity(anchors=known.anchors))
    return checked.manifest.state == "trusted"


async def _with_references(
    state: AppState,
    request: ImageRequest,
    body: EditBody | TweakBody,
    pictures: Pictures,
    model: ServedModel,
) -> ImageRequest:
    """Pictures that are looked at, one after the other: one as it came is in memory at a time."""
    can, params, tenant, roles = model.can, pictures.params, request.tenant, pictures.images
    most_pixels = math.prod(can.picture_size)
    most_pixels = min(most_pixels, REFERENCE_PICTURES * most_pixels // len(roles))
    size, parent, stored = (request.width, request.height), None, {}
    for number, role in enumerate(roles):
        files, named = {"image": await pictures.find(state, tenant, role)}, {"image": params[role]}
        if number == 0 and "markup" in pictures.given:
            files["markup"] = await pictures.find(state, tenant, "markup")
            named["markup"] = params["markup"]
        data = {name: one.data for name, one in files.items()}
        seen = await state.inputs.reference(data, named, most_pixels)
        stored[f"reference{number}"] = seen.png
        if number == 0:
            parent = files["image"].parent
            if body.size == "auto":
                bounds = Possible(model, state.config.limits).bounds
                size = bounds.nearest(seen.width, seen.height)
    life_seconds = request.deadline_seconds + DAY_SECONDS
    file = await state.inputs.store(tenant, stored, size, life_seconds)
    redraw = np.ones(can.cells, np.bool_)
    source = SourceImage(
        redraw=to_hex(redraw), parent=parent, images=len(roles), references=file.blobs
    )
    seconds = model.terms.pass_seconds * source.pass_weight
    return with_source(request, source, request.passes, size, seconds)


def _region(can: Capabilities, strength: float, seed: int) -> Region:
    """What is drawn anew without a mask: some cells, or in families that draw pixels a little of
    everything."""
    if can.size_multiple:
        return np.ones(can.cells, np.bool_)
    return scattered(can.cells, strength, seed)


@dataclass(frozen=True, slots=True)
class Edit:
    """A body, parsed."""

    body: edits.EditBody
    pictures: Mapping[str, Given]
    """By role."""
    params: Mapping[str, str]
    """By role, the parameter that names the picture."""
    known: Callable[[ImageRequest], ImageRequest]
    """Gives a request the hash that is the same for a retry."""


def json_edit(body: edits.JsonEditBody) -> Edit:
    """Of a body that names its pictures. Raises InvalidRequest."""
    given: dict[str, Given] = {role_of(number): ref for number, ref in enumerate(body.images)}
    companions = {"mask": body.mask, "markup": body.markup}
    given |= {name: ref for name, ref in companions.items() if ref is not None}
    check_companions(given)
    params = {name: name if name in COMPANIONS else "images" for name in given}
    return Edit(body, given, params, partial(requests.with_hash, body=body, path="edits"))


def plain_request(edit: Edit, model: ServedModel, context: requests.RequestContext) -> ImageRequest:
    """The request but for its pictures and its hash. Raises what is wrong with it."""
    images = sum(name not in COMPANIONS for name in edit.pictures)
    masked = "mask" in edit.pictures
    edits.check_pictures(images, edit.params["image"], masked, model.can)
    body = edit.body.model_copy(update={"model": model.name})
    words = requests.words_of(body.prompt, body.negative_prompt)
    return edits.edit_request(body, words, context)


async def edit_order(
    state: AppState,
    context: requests.RequestContext,
    edit: Edit,
    fetched: Mapping[str, bytes],
    check: Check | None = None,
) -> requests.ImageOrder:
    """The edit, with its pictures stored. check: of the request, before that. Raises ToFetch, and
    what is wrong with it."""
    model = await editing_model(state, context.tenant.id, edit.body, edit.pictures["image"])
    accepted = plain_request(edit, model, context)
    accepted = await asyncio.to_thread(edit.known, accepted)
    if check is not None:
        await check(accepted)
    pictures = Pictures(edit.pictures, edit.params, fetched)
    accepted = await with_pictures(state, accepted, edit.body, pictures)
    return requests.order_of(edit.body, accepted)


def role_of(number: int) -> str:
    """Of an image of several, from 0."""
    return f"image{number}" if number else "image"


def check_companions(given: Mapping[str, object | Sequence[object]]) -> None:
    """Raises InvalidRequest for a mask and a markup together."""
    if all(name in given for name in COMPANIONS):
        message = "Choose one: a 'mask' or a 'markup'."
        raise InvalidRequest(message, param="markup")
