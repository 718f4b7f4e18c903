"""POST /v1/images/edits: a form as official clients send it, or JSON that names its pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serve_app.config.sections import LimitsSection
from serve_app.orders.answering import respond
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.bodies import Form, content, is_form, is_large, on_disk, read_form
from serve_app.orders.callers import context_of, orderer_of
from serve_app.orders.placing import Edit, check_companions, edit_order, json_edit, role_of
from serve_app.orders.sources import COMPANIONS, Given, in_turn
from serve_app.orders.submission import check_order, check_read
from serve_app.wire import edits, requests
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.operations import ordering

router = APIRouter()

LARGE_TOGETHER = 4
"""As many bytes as so many pictures of the largest size all images of a form have, at most."""


_Read = Callable[[], Awaitable[Edit]]


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
        check = partial(check_read, state, context)

        async def ordered(fetched: Mapping[str, bytes]) -> requests.ImageOrder:
            return await edit_order(state, context, await read(), fetched, check)

        order = await in_turn(state, tenant, ordered)
    return await respond(request, order)


@asynccontextmanager
async def _form(request: Request, state: AppState) -> AsyncGenerator[_Read]:
    limits = state.config.limits
    large = min(max(state.models.input_images, 1), LARGE_TOGETHER) + len(COMPANIONS)
    most_files = edits.MOST_IMAGES + len(COMPANIONS)
    async with read_form(request, limits, most_files, large) as form:

        async def read() -> Edit:
            body = edits.parse_form(form.fields)
            _check_files(form)
            images = form.files["image"]
            given: dict[str, Given] = {role_of(number): one for number, one in enumerate(images)}
            given |= {role: form.files[role][0] for role in COMPANIONS if role in form.files}
            params = {role: role if role in COMPANIONS else "image" for role in given}
            body_hash = edits.form_hash(form.fields, await _digests(form, limits))
            known = partial(replace, body_hash=body_hash)
            return Edit(body, given, params, known)

        yield read


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
    check_companions(form.files)


@asynccontextmanager
async def _json(request: Request, state: AppState) -> AsyncGenerator[_Read]:
    limits = state.config.limits
    pictures = 1 + len(COMPANIONS)  # all of it is in memory when it is read
    most_bytes = limits.body_bytes + pictures * (limits.image_bytes * 4 // 3 + 4)
    async with on_disk(request, limits, most_bytes) as file:

        async def read() -> Edit:
            await file.seek(0)
            raw = await file.read()
            body = await asyncio.to_thread(edits.parse_edit, raw, limits.body_bytes)
            return json_edit(body)

        yield read
