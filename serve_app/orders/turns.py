"""From a turn of a conversation to its order: which picture it goes on from, by which model, and in
which words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.request import ImageRequest
from serve_app.config.sections import LEAST_GUIDANCE
from serve_app.orders.app_state import AppState
from serve_app.orders.conversations import Drawn, last_picture, picture_of
from serve_app.orders.placing import with_pictures
from serve_app.orders.sources import (
    Pictures,
    in_turn,
    same_model,
)
from serve_app.orders.submission import check_read
from serve_app.wire import edits, requests
from serve_app.wire.edits import EditBody, ImageRef, kept_look
from serve_app.wire.errors import InvalidRequest, NotFound
from serve_app.wire.models import ServedModel
from serve_app.wire.requests import GenerationBody, LookBody, parse_body
from serve_app.wire.response_input import NamedPicture, joined
from serve_app.wire.response_requests import ImageTool, Turn, of_tool, tool_param

TURN_STRENGTH = 0.9
"""Of families that draw cells, where a turn names none: less leaves patches of what was
(docs/conversations.md)."""
PATH = "responses"
_OF_TOOL = {*ImageTool.model_fields, *ImageTool.unsupported}


@dataclass(frozen=True, slots=True)
class _Plan:
    """given: the pictures by role. params: by role, what names them. before: the order of the
    picture that it goes on from, if that was drawn here and its words count."""

    model: ServedModel
    words: str
    before: ImageRequest | None = None
    given: Mapping[str, ImageRef | Drawn] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


_Read = Callable[[], Awaitable[Turn]]


async def order_of_turn(
    state: AppState, context: requests.RequestContext, read: _Read, *, large: bool
) -> requests.ImageOrder:
    """The order, with its pictures stored. large: its body stays on the disk until it is its turn.
    Raises InvalidRequest, NotFound, ImageExpired, NoModel."""
    options = replace(context.options, respond_async=False)  # `background` says it here
    context = replace(context, options=options)
    if large:
        return await in_turn(
            state, context.tenant, lambda fetched: _order(state, context, read, fetched)
        )
    turn = await read()
    plan = await _plan(state, context, turn)
    if not plan.given:
        return await _generation(state, context, turn, plan)
    return await in_turn(
        state, context.tenant, lambda fetched: _edit(state, context, turn, plan, fetched)
    )


async def _order(
    state: AppState, context: requests.RequestContext, read: _Read, fetched: Mapping[str, bytes]
) -> requests.ImageOrder:
    """Raises ToFetch, too."""
    turn = await read()
    plan = await _plan(state, context, turn)
    if plan.given:
        return await _edit(state, context, turn, plan, fetched)
    return await _generation(state, context, turn, plan)


async def _plan(state: AppState, context: requests.RequestContext, turn: Turn) -> _Plan:
    """Raises InvalidRequest, NotFound, NoModel."""
    source = await last_picture(state, context.tenant.id, turn)
    said, action = turn.conversed, turn.tool.action
    model = _model(context, turn, source)
    can, words, before = model.can, joined(said.texts), None
    if isinstance(source, Drawn) and not said.pictures:
        before = source.job.request
    if action == "generate" and said.pictures:
        message = (
            "Invalid value for 'tools[0].action': with 'generate' no picture is looked at. Leave "
            "the input_image out, or say 'edit'."
        )
        raise InvalidRequest(message, param=tool_param("action"))
    redrawn = before is not None and not can.input_images and action == "auto"
    if action == "generate" or redrawn:
        told = [before.prompt] if before is not None else [*said.earlier]
        return _Plan(model, joined([*told, words]), before)
    given, params = _pictures(turn, source, model)
    if not given:
        if action == "edit":
            message = (
                "Invalid value for 'tools[0].action': there is no picture to edit. Send an "
                "input_image, or go on with 'previous_response_id'."
            )
            raise InvalidRequest(message, param=tool_param("action"))
        return _Plan(model, joined([*said.earlier, words]))
    if not can.looks and not said.pictures:  # what looks at a picture needs no words for it
        told = [before.prompt] if before is not None else [*said.earlier]
        words = joined([*told, words])
    return _Plan(model, words, before, given, params)


def _model(
    context: requests.RequestContext, turn: Turn, source: Drawn | NamedPicture | None
) -> ServedModel:
    """That of the tool, else that of the response, else the one that drew the picture."""
    body, tool, models = turn.body, turn.tool, context.models
    named = models.named(body.model) if body.model is not None else None
    if tool.model is not None:
        try:
            return models.named(tool.model)
        except NotFound as problem:
            problem.param = tool_param("model")
            raise
    if named is not None:
        return named
    if isinstance(source, Drawn) and not turn.conversed.pictures:
        return same_model(models, source.job)
    return models.named(None)


def _pictures(
    turn: Turn, source: Drawn | NamedPicture | None, model: ServedModel
) -> tuple[dict[str, ImageRef | Drawn], dict[str, str]]:
    """By role, and what names them: what came with the turn, behind the last picture for models
    that look at several. Raises InvalidRequest."""
    sent = turn.conversed.pictures
    found: list[tuple[str, ImageRef | Drawn]] = []
    if source is not None and (not sent or model.can.looks):
        found.append((source.param, source if isinstance(source, Drawn) else source.ref))
    found += [(picture.param, picture.ref) for picture in sent]
    roles = [f"image{number}" if number else "image" for number in range(len(found))]
    given = {role: one for role, (_, one) in zip(roles, found, strict=True)}
    params = {role: param for role, (param, _) in zip(roles, found, strict=True)}
    mask = turn.tool.input_image_mask
    if found:
        edits.check_pictures(len(found), found[-1][0], mask is not None, model.can)
    if mask is not None:
        name = tool_param("input_image_mask")
        if not found:
            message = f"Invalid value for '{name}': there is no picture that it could belong to."
            raise InvalidRequest(message, param=name)
        given["mask"], params["mask"] = mask, name
    return given, params


async def _edit(
    state: AppState,
    context: requests.RequestContext,
    turn: Turn,
    plan: _Plan,
    fetched: Mapping[str, bytes],
) -> requests.ImageOrder:
    """Raises ToFetch, too."""
    given = {role: await picture_of(state, one) for role, one in plan.given.items()}
    fields = {"input_fidelity": turn.tool.input_fidelity, "strength": turn.tool.strength}
    if not any(fields.values()) and "mask" not in plan.given and not plan.model.can.size_multiple:
        fields["strength"] = TURN_STRENGTH
    with named_as_sent():
        body = parse_body(EditBody, _fields(turn, plan) | _without_none(fields))
        words = requests.words_of(body.prompt, body.negative_prompt)
        accepted = await _known(edits.edit_request(body, words, context), turn, plan)
        await check_read(state, context, accepted)
        pictures = Pictures(given, plan.params, fetched)
        accepted = await with_pictures(state, accepted, body, pictures)
    return _as_asked(accepted, turn)


async def _generation(
    state: AppState, context: requests.RequestContext, turn: Turn, plan: _Plan
) -> requests.ImageOrder:
    if not plan.model.can.draws:
        message = "This model draws along a picture: send one as an input_image."
        raise InvalidRequest(message, param="input")
    for name in ("strength", "input_image_mask"):
        if getattr(turn.tool, name) is not None:
            message = f"Invalid value for '{tool_param(name)}': no picture is changed here."
            raise InvalidRequest(message, param=tool_param(name))
    with named_as_sent():
        body = parse_body(GenerationBody, _fields(turn, plan))
        words = requests.words_of(body.prompt, body.negative_prompt)
        request = requests.picture_request(body, words, context)
    accepted = await _known(request, turn, plan)
    await check_read(state, context, accepted)
    return _as_asked(accepted, turn)


def _as_asked(request: ImageRequest, turn: Turn) -> requests.ImageOrder:
    return requests.ImageOrder(request, stream=turn.body.stream, as_url=False)


async def _known(request: ImageRequest, turn: Turn, plan: _Plan) -> ImageRequest:
    """With its hash, and as a response."""
    hashed = await asyncio.to_thread(requests.with_hash, request, turn.body, PATH)
    return replace(
        hashed,
        revised=plan.words != joined(turn.conversed.texts),
        watched=not turn.body.background,
        response=turn.order,
    )


def _fields(turn: Turn, plan: _Plan) -> dict[str, Any]:
    """Those of an order of pictures: what the tool does not say is as it was drawn before."""
    tool, body, kept = turn.tool, turn.body, {}
    names = tool.model_fields_set & LookBody.model_fields.keys()
    said: dict[str, Any] = {name: _plain(getattr(tool, name)) for name in names}
    before = plan.before
    if before is not None and before.model == plan.model.name:
        kept = kept_look({**said, "model": None}, before)
        guidance = said.get("guidance", kept.get("guidance"))
        if before.negative_prompt is not None and guidance != LEAST_GUIDANCE:
            kept["negative_prompt"] = before.negative_prompt
    return {
        **kept,
        **said,
        "model": plan.model.name,
        "prompt": plan.words,
        "stream": turn.partial_images > 0,
        "partial_images": turn.partial_images,
        **_without_none({"user": body.user, "safety_identifier": body.safety_identifier}),
    }


def _plain(value: Any) -> Any:
    """As it stood in JSON."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.model_dump() if hasattr(value, "model_dump") else value


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@contextmanager
def named_as_sent() -> Iterator[None]:
    """Refusals name the fields of an order of pictures; a turn calls them otherwise."""
    try:
        yield
    except InvalidRequest as problem:
        if problem.param == "prompt":
            message = problem.message.replace("'prompt'", "'input'")
            raise InvalidRequest(message, param="input", code=problem.code) from None
        name = (problem.param or "").partition("[")[0].partition(".")[0]
        if name in _OF_TOOL and problem.param is not None:
            raise of_tool(problem) from None
        raise
