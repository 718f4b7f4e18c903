"""The one model of a lane, and what it can do."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from serve_app.config import sizes
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.callers import poller_of
from serve_app.orders.pictures import MEDIA_TYPES
from serve_app.orders.responses import json_response
from serve_app.wire.errors import NotFound
from serve_app.wire.fields import Seconds
from serve_app.wire.operations import answer, operation
from serve_app.wire.requests import MOST_PARTIAL_IMAGES

router = APIRouter()

FIRST_RELEASE = 1_795_219_200
"""`created` of the model: the day of the first release, seconds since the epoch."""


class ModelBody(TypedDict):
    """The model, and what requests for it may say."""

    id: str
    object: Literal["model"]
    created: Seconds
    owned_by: str
    capabilities: dict[str, Any]


class ModelsBody(TypedDict):
    """The one model of this lane."""

    object: Literal["list"]
    data: list[ModelBody]


@router.get("/v1/models")
@operation("listModels", {200: answer(ModelsBody)})
async def models(request: Request) -> Response:
    """The one model of this lane."""
    await poller_of(request)
    body: ModelsBody = {"object": "list", "data": [_model(app_state_of(request))]}
    return json_response(body)


@router.get("/v1/models/{name}")
@operation("getModel", {200: answer(ModelBody)}, 404)
async def model(request: Request, name: str) -> Response:
    """The model of this lane, by its name or an alias."""
    await poller_of(request)
    state = app_state_of(request)
    found = _model(state)
    if name not in (found["id"], *state.config.model.aliases):
        message = f"The model '{name}' does not exist."
        raise NotFound(message, param="model", code="model_not_found")
    return json_response(found)


def _model(state: AppState) -> ModelBody:
    return {
        "id": state.config.model.name,
        "object": "model",
        "created": FIRST_RELEASE,
        "owned_by": "meltproof",
        "capabilities": _capabilities(state),
    }


def _capabilities(state: AppState) -> dict[str, Any]:
    """Our extension: what requests may say. qualities: passes of each."""
    config, can = state.config, state.can
    return {
        "n": config.limits.images,
        "prompt_characters": config.limits.prompt_characters,
        "partial_images": MOST_PARTIAL_IMAGES,
        "qualities": config.qualities.model_dump(),
        "output_formats": list(MEDIA_TYPES),
        "backgrounds": ["auto", "opaque", *(["transparent"] if can.transparent else [])],
        "sizes": {
            "auto": config.model.size,
            "divisible_by": sizes.STEP,
            "longest_edge": sizes.LONGEST_EDGE,
            "pixels": config.limits.max_pixels,
            "widest_aspect": sizes.WIDEST_ASPECT,
            "drawn": "{}x{}".format(*can.picture_size),
        },
        "negative_prompt": can.negative_prompt,
        "edits": can.input_images > 0,
        "input_images": can.input_images,
        "image_bytes": config.limits.image_bytes,
        "grid": {"columns": can.grid[0], "rows": can.grid[1]},
    }
