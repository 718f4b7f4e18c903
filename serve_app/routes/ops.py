"""Limits, health and the page: what needs no job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from serve_app.orders.app_state import app_state_of
from serve_app.orders.callers import poller_of
from serve_app.orders.responses import json_response
from serve_app.wire.limits import LimitsBody, limits_body, ratelimit_headers, temporary_headers
from serve_app.wire.operations import KEYLESS, TEXT, answer, operation
from serve_app.wire.status import HealthBody, StatusBody, status_body

router = APIRouter()

OF_MODEL = {"name": "model", "in": "query", "schema": TEXT}

STUDIO = Path(__file__).resolve().parents[2] / "studio"
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@router.get("/v1/limits")
@operation("getLimits", {200: answer(LimitsBody)}, 404, parameters=[OF_MODEL])
async def limits(request: Request) -> Response:
    """What your tier allows, and how much of it is used."""
    tenant = await poller_of(request)
    state = app_state_of(request)
    queue = _queue(request)
    standing = await state.ledger.standing(tenant, queue)
    tier = state.config.tier_promises()[tenant.tier]
    temporary = state.limits.of(queue).of(tenant.tier)
    headers = ratelimit_headers(standing.usage) | temporary_headers(temporary)
    return json_response(limits_body(tenant, tier, standing, temporary), headers=headers)


@router.get("/v1/status")
@operation("getStatus", {200: answer(StatusBody)}, 404, parameters=[OF_MODEL])
async def status(request: Request) -> Response:
    """The heat of a model's queue, at most a second old."""
    await poller_of(request)
    queue = _queue(request)
    return json_response(status_body(queue, await app_state_of(request).heats.of(queue).now()))


def _queue(request: Request) -> str:
    """That of the model that `?model=` names, or of the first. Raises NotFound, NoModel."""
    return app_state_of(request).models.named(request.query_params.get("model")).queue


@router.api_route("/healthz", methods=["GET", "HEAD"])
@operation("getHealth", {200: answer(HealthBody)}, security=KEYLESS)
async def healthz() -> Response:
    """Whether the process answers."""
    healthy: HealthBody = {"status": "ok"}
    return json_response(healthy)


@router.api_route("/readyz", methods=["GET", "HEAD"])
@operation("getReadiness", {200: answer(HealthBody)}, 503, security=KEYLESS)
async def readyz(request: Request) -> Response:
    """Whether the ledger answers, too. Raises Unavailable."""
    await app_state_of(request).readiness.check()
    ready: HealthBody = {"status": "ready"}
    return json_response(ready)


@router.api_route("/", methods=["GET", "HEAD"])
async def page() -> Response:
    """The studio."""
    return FileResponse(STUDIO / "index.html", headers=PAGE_HEADERS)


@router.api_route("/operator", methods=["GET", "HEAD"])
async def operator_page() -> Response:
    """The operator's view; what it shows needs an operator's key."""
    return FileResponse(STUDIO / "operator.html", headers=PAGE_HEADERS)


class StudioFiles(StaticFiles):
    """The studio's files, which may load nothing from elsewhere."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file with the page's security headers."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(PAGE_HEADERS)
        return response


def mount_studio(app: FastAPI) -> None:
    """Serve the studio's files, where they are installed."""
    app.mount("/studio", StudioFiles(directory=STUDIO, check_dir=False), name="studio")
