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
from serve_app.orders.answering import respond
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.bodies import Form, content, is_form, is_large, on_disk, read_form
from serve_app.orders.callers import context_of, orderer_of
from serve_app.orders.sources import Given, editing_model, find_all, in_turn, with_canvas
from serve_app.orders.submission import check_order, check_read
from serve_app.wire import edits, requests
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.operations import ordering

router = APIRouter()

COMPANIONS = ("mask", "markup")


@dataclass(frozen=True, slots=True)
class _Edit:
    """A body, parsed."""

    body: edits.EditBody
    pictures: Mapping[str, Given]
    """By role."""
    params: Mapping[str, str]
    """By role, the parameter that names the picture."""
    images: int
    """How many came in to be changed."""
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
    masked = "mask" in edit.pictures
    edits.check_pictures(edit.images, edit.params["image"], masked, model.can)
    body = edit.body.model_copy(update={"model": model.name})
    words = requests.words_of(body.prompt, body.negative_prompt)
    accepted = edits.edit_request(body, words, context)
    accepted = await asyncio.to_thread(edit.known, accepted)
    await check_read(state, context, accepted)
    found = await find_all(state, tenant.id, edit.pictures, edit.params, fetched)
    accepted = await with_canvas(state, accepted, edit.body, found, edit.params)
    return requests.order_of(edit.body, accepted)


@asynccontextmanager
async def _form(request: Request, state: AppState) -> AsyncGenerator[_Read]:
    limits = state.config.limits
    most_files = max(state.models.input_images, 1) + len(COMPANIONS)
    async with read_form(request, limits, most_files) as form:

        async def read() -> _Edit:
            body = edits.parse_form(form.fields)
            _check_files(form)
            pictures: dict[str, Given] = {role: files[0] for role, files in form.files.items()}
            files = [
                (role, await content(file, role, limits))
                for role, given in sorted(form.files.items())
                for file in given
            ]
            for given in form.files.values():
                await given[0].seek(0)
            params = {role: role for role in pictures}
            body_hash = await asyncio.to_thread(edits.form_hash, form.fields, files)
            known = partial(replace, body_hash=body_hash)
            return _Edit(body, pictures, params, len(form.files["image"]), known)

        yield read


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
    pictures = max(state.models.input_images, 1) + len(COMPANIONS)
    most_bytes = limits.body_bytes + pictures * (limits.image_bytes * 4 // 3 + 4)
    async with on_disk(request, limits, most_bytes) as file:

        async def read() -> _Edit:
            await file.seek(0)
            raw = await file.read()
            body = await asyncio.to_thread(edits.parse_edit, raw, limits.body_bytes)
            given = {"image": body.images[0], "mask": body.mask, "markup": body.markup}
            named = {role: ref for role, ref in given.items() if ref is not None}
            _check_companions(named)
            params = {"image": "images", "mask": "mask", "markup": "markup"}
            known = partial(requests.with_hash, body=body, path="edits")
            return _Edit(body, named, params, len(body.images), known)

        yield read


def _check_companions(given: Mapping[str, object | Sequence[object]]) -> None:
    if all(name in given for name in COMPANIONS):
        message = "Choose one: a 'mask' or a 'markup'."
        raise InvalidRequest(message, param="markup")
