"""Every router of the gateway, and GET /openapi.json, which describes their routes."""

from __future__ import annotations

import asyncio
from functools import cache

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serve_app.orders.app_state import app_state_of
from serve_app.orders.responses import json_response, root_path
from serve_app.routes import (
    batches,
    edits,
    files,
    images,
    jobs,
    models,
    operator_jobs,
    ops,
    overview,
    provenance,
    responses,
    tweaks,
    usage,
    webhook_endpoints,
)
from serve_app.wire.openapi import document, of_routes
from serve_app.wire.operations import JSON, KEYLESS, Schema, media, operation

router = APIRouter()
ROUTERS = (
    images.router,
    edits.router,
    tweaks.router,
    responses.router,
    jobs.router,
    files.router,
    batches.router,
    provenance.router,
    models.router,
    ops.router,
    overview.router,
    operator_jobs.router,
    usage.router,
    webhook_endpoints.router,
    router,
)


@router.get("/openapi.json")
@operation(
    "getDocument", {200: media("The document", {JSON: {"type": "object"}})}, security=KEYLESS
)
async def openapi(request: Request) -> Response:
    """This lane as an OpenAPI document. Needs no key: it tells no secrets."""
    state = app_state_of(request)
    described = await asyncio.to_thread(routes)
    return json_response(document(described, state.config, state.models, root_path(request)))


@cache
def routes() -> Schema:
    """What the document says in any lane."""
    return of_routes(
        (route.path, frozenset(route.methods or ()), route.endpoint)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route)
    )
