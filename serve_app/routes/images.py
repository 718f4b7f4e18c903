"""POST /v1/images/generations, and what has become of variations."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serve_app.orders.answering import respond
from serve_app.orders.app_state import app_state_of
from serve_app.orders.bodies import read_body
from serve_app.orders.callers import context_of, orderer_of
from serve_app.orders.submission import check_order
from serve_app.wire import requests
from serve_app.wire.errors import Retired
from serve_app.wire.operations import KEYLESS, operation, ordering

router = APIRouter()


@ordering("createImages", "image_generation")
async def generations(request: Request) -> Response:
    """Draw pictures: wait for the images, stream them, or get a job."""
    state = app_state_of(request)
    tenant = await orderer_of(request)
    context = context_of(request, tenant)
    if tenant.id in state.recent_refusals:
        await check_order(state, context)
    async with state.inputs.arriving(tenant.id, large=False):
        raw = await read_body(request, state.config.limits)
    return await respond(request, requests.parse_generation(raw, context))


# A plain route: what FastAPI does for typed parameters costs as much as all of the above.
router.add_route("/v1/images/generations", generations, methods=["POST"])


@router.post("/v1/images/variations")
@operation("createVariation", {}, 410, security=KEYLESS)
async def variations() -> Response:
    """Retired, as it is at OpenAI."""
    raise Retired(
        "Variations are no more. For a variation of one of your pictures, POST "
        "/v1/images/{id}/tweaks with a 'strength'; for one of an upload, POST /v1/images/edits."
    )
