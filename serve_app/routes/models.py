"""The models of a lane, and what they can do."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict

from serve_app.config.sections import LimitsSection
from serve_app.orders.app_state import app_state_of
from serve_app.orders.callers import poller_of
from serve_app.orders.pictures import MEDIA_TYPES
from serve_app.orders.responses import json_response
from serve_app.wire.fields import Seconds
from serve_app.wire.loras import MOST_LORAS
from serve_app.wire.models import ServedModel
from serve_app.wire.operations import answer, operation
from serve_app.wire.possible import Possible
from serve_app.wire.requests import MOST_PARTIAL_IMAGES

router = APIRouter()

FIRST_RELEASE = 1_795_219_200
"""`created` of every model: the day of the first release, seconds since the epoch."""


class ModelBody(TypedDict):
    """A model, and what requests for it may say. available: a decoder is there, or comes with
    the work, after start_seconds; without one its jobs wait."""

    id: str
    object: Literal["model"]
    created: Seconds
    owned_by: str
    available: bool
    start_seconds: float | None
    capabilities: dict[str, Any]


class ModelsBody(TypedDict):
    """The models of this lane."""

    object: Literal["list"]
    data: list[ModelBody]


@router.get("/v1/models")
@operation("listModels", {200: answer(ModelsBody)})
async def models(request: Request) -> Response:
    """The models of this lane: first the one that is meant by requests that name none."""
    tenant = await poller_of(request)
    state = app_state_of(request)
    served = state.models.for_tenant(tenant.id)
    found = [_model(state.config.limits, one) for one in served.all]
    body: ModelsBody = {"object": "list", "data": found}
    return json_response(body)


@router.get("/v1/models/{name}")
@operation("getModel", {200: answer(ModelBody)}, 404)
async def model(request: Request, name: str) -> Response:
    """A model of this lane, by its name or an alias."""
    tenant = await poller_of(request)
    state = app_state_of(request)
    served = state.models.for_tenant(tenant.id).named(name)
    return json_response(_model(state.config.limits, served))


def _model(limits: LimitsSection, model: ServedModel) -> ModelBody:
    return {
        "id": model.name,
        "object": "model",
        "created": FIRST_RELEASE,
        "owned_by": "meltproof",
        "available": model.available,
        "start_seconds": model.start_seconds if model.available else None,
        "capabilities": _capabilities(limits, model),
    }


def _capabilities(limits: LimitsSection, model: ServedModel) -> dict[str, Any]:
    """Our extension: what requests may say."""
    can = model.can
    return {
        **Possible(model, limits).shown(),
        "partial_images": MOST_PARTIAL_IMAGES,
        "output_formats": list(MEDIA_TYPES),
        "backgrounds": ["auto", "opaque", *(["transparent"] if can.transparent else [])],
        "loras": list(can.loras),
        "loras_max": min(can.loras_max, MOST_LORAS),
        "generations": can.draws,
        "edits": can.input_images > 0,
        "input_images": can.input_images,
        "mask": can.mask,
        "strength": can.strength or can.mask,
        "image_bytes": limits.image_bytes,
        "grid": {"columns": can.grid[0], "rows": can.grid[1]},
        "precision": can.precision or None,
    }
