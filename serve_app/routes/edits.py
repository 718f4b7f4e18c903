"""POST /v1/images/edits: a form as official clients send it, or JSON that names its pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from jobs.request import ImageRequest
from serve_app.config.sections import LimitsSection
from serve_app.orders.answering import respond
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.bodies import Form, content, is_form, is_large, on_disk, read_form
from serve_app.orders.callers import context_of, orderer_of
from serve_app.orders.placing import with_pictures
from serve_app.orders.sources import COMPANIONS, Given, Pictures, editing_model, in_turn
from serve_app.orders.submission import check_order, check_read
from serve_app.wire import edits, requests
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.operations import ordering

router = APIRouter()

LARGE_TOGETHER = 4
"""As many bytes as so many pictures of the largest size all images of a form have, at most."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """A body, parsed."""

    body: edits.EditBody
    pictures: Mapping[str, Given]
    """By role."""
    params: Mapping[str, str]
    """By role, the parameter that names the picture."""
    known: Callable[[ImageRequest], ImageRequest]
    """Gives a request the hash that is the same for a retry."""


_Read = Callable[[], Awaitable[_Edit]]


@router.post("/v1/images/edits")
@ordering("createEdits", "image_edit")
async def edit_images(request: Request) -> Response:
    """Edit uploaded or named pictures: wait for the images, stream them, or get a job."""
    state = app_state_of(request)
    tenant = await orderer_of(request)
    context = context_of(request, tenant)
    await check_order(state, context)
    receiving = _form if is_form(request) else _json
    async with (
        state.inputs.arriving(tenant.id, is_large(request, state.config.limits)),
        receiving(request, state) as read,
    ):
        order = await in_turn(state, tenant, lambda fetched: _order(state, context, read, fetched))
    return await respond(request, order)


async def _order(
    state: AppState, context: requests.RequestContext, read: _Read, fetched: Mapping[str, bytes]
) -> requests.ImageOrder:
    """The edit, with its pictures stored. Raises ToFetch, and what is wrong with it."""
    tenant, edit = context.tenant, await read()
    model = await editing_model(state, tenant.id, edit.body, edit.pictures["image"])
    pictures = Pictures(edit.pictures, edit.params, fetched)
    masked = "mask" in edit.pictures
    edits.check_pictures(len(pictures.images), edit.params["image"], masked, model.can)
    body = edit.body.model_copy(update={"model": model.name})
    words = requests.words_of(body.prompt, body.negative_prompt)
    accepted = edits.edit_request(body, words, context)
    accepted = await asyncio.to_thread(edit.known, accepted)
    await check_read(state, context, accepted)
    accepted = await with_pictures(state, accepted, edit.body, pictures)
    return requests.order_of(edit.body, accepted)


@asynccontextmanager
async def _form(request: Request, state: AppState) -> AsyncGenerator[_Read]:
    limits = state.config.limits
    large = min(max(state.models.input_images, 1), LARGE_TOGETHER) + len(COMPANIONS)
    most_files = edits.MOST_IMAGES + len(COMPANIONS)
    async with read_form(request, limits, most_files, large) as form:

        async def read() -> _Edit:
            body = edits.parse_form(form.fields)
            _check_files(form)
            images = form.files["image"]
            given: dict[str, Given] = {_role(number): one for number, one in enumerate(images)}
            given |= {role: form.files[role][0] for role in COMPANIONS if role in form.files}
            params = {role: role if role in COMPANIONS else "image" for role in given}
            body_hash = edits.form_hash(form.fields, await _digests(form, limits))
            known = partial(replace, body_hash=body_hash)
            return _Edit(body, given, params, known)

        yield read


def _role(number: int) -> str:
    """Of an image of several, from 0."""
    return f"image{number}" if number else "image"


async def _digests(form: Form, limits: LimitsSection) -> list[tuple[str, str]]:
    """Of each file in turn, by its name. Raises InvalidRequest for one that is too large."""
    found = []
    for name, given in sorted(form.files.items()):
        for file in given:
            data = await content(file, name, limits)
            found.append((name, await asyncio.to_thread(edits.file_digest, data)))
            await file.seek(0)
    return found


def _check_files(form: Form) -> None:
    for name in sorted(form.files.keys() - {"image", *COMPANIONS}):
        message = (
            f"Unknown parameter: '{name}'. The pictures of a form are 'image' (or 'image[]'), "
            "'mask' and 'markup'."
        )
        raise InvalidRequest(message, param=name, code="unknown_parameter")
    if "image" not in form.files:
        message = "Missing required parameter: 'image'."
        raise InvalidRequest(message, param="image", code="missing_required_parameter")
    for name in COMPANIONS:
        if len(form.files.get(name, ())) > 1:
            raise InvalidRequest(f"'{name}' appears twice.", param=name)
    _check_companions(form.files)


@asynccontextmanager
async def _json(request: Request, state: AppState) -> AsyncGenerator[_Read]:
    limits = state.config.limits
    pictures = 1 + len(COMPANIONS)  # all of it is in memory when it is read
    most_bytes = limits.body_bytes + pictures * (limits.image_bytes * 4 // 3 + 4)
    async with on_disk(request, limits, most_bytes) as file:

        async def read() -> _Edit:
            await file.seek(0)
            raw = await file.read()
            body = await asyncio.to_thread(edits.parse_edit, raw, limits.body_bytes)
            given = {_role(number): ref for number, ref in enumerate(body.images)}
            companions = {"mask": body.mask, "markup": body.markup}
            given |= {role: ref for role, ref in companions.items() if ref is not None}
            _check_companions(given)
            params = {role: role if role in COMPANIONS else "images" for role in given}
            known = partial(requests.with_hash, body=body, path="edits")
            return _Edit(body, given, params, known)

        yield read


def _check_companions(given: Mapping[str, object | Sequence[object]]) -> None:
    if all(name in given for name in COMPANIONS):
        message = "Choose one: a 'mask' or a 'markup'."
        raise InvalidRequest(message, param="markup")
