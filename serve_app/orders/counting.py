"""What one gateway counts of orders and refusals, for Prometheus."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request

from deployments.metrics import catalogue as c
from dispatch.metering import LedgerTrouble
from jobs.ledger_errors import LedgerUnavailable
from jobs.request import ImageRequest
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.wire.errors import ApiError, StillQueued

BEGAN = "meltproof.began"
"""Where a request's scope has when it arrived; monotonic."""
SHOW_SECONDS = 2.0
ORDERING = ("/images/generations", "/images/edits", "/tweaks", "/v1/responses")
"""What paths of orders end in."""


def count_accepted(request: Request, order: ImageRequest) -> None:
    """It is in the ledger."""
    metrics = app_state_of(request).metrics
    metrics.add(c.ORDERS, c.OrderEnd.ACCEPTED)
    if (began := request.scope.get(BEGAN)) is not None:
        metrics.observe(c.STAGE_SECONDS, order.model, "accept", value=time.monotonic() - began)


def count_refused(request: Request, problem: ApiError, error: Exception) -> None:
    """Answered with an error. The wait for an order that ends is none of the order."""
    metrics = app_state_of(request).metrics
    metrics.add(c.REFUSALS, problem.code or "server_error")
    if isinstance(error, LedgerUnavailable):
        metrics.add(c.LEDGER_ERRORS, c.Part.GATEWAY, LedgerTrouble.UNAVAILABLE)
    ordering = request.method == "POST" and request.url.path.endswith(ORDERING)
    if ordering and not isinstance(problem, StillQueued):
        failed = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        metrics.add(c.ORDERS, c.OrderEnd.FAILED if failed else c.OrderEnd.REFUSED)


def show(state: AppState) -> None:
    """How it stands now."""
    state.metrics.show(c.PROCESSES, c.Part.GATEWAY, value=1.0)
    state.metrics.show(c.WATCHERS, value=len(state.open_requests))
    state.metrics.show(c.ORDERS_WAITING, value=len(state.admission_queue))
    for one in state.config.each() if state.lane_models.configured else ():
        wait_seconds = one.scaling.numbers(1, 1).wait_seconds
        state.metrics.show(c.PROMISED_WAIT_SECONDS, one.queue, value=wait_seconds)


async def keep_showing(app: Starlette) -> None:
    """The state of that application as it is replaced, until cancelled."""
    metrics = app.state.app_state.metrics
    for counter in (c.ORDERS, c.REFUSALS):
        metrics.begin(counter)
    metrics.begin(c.LEDGER_ERRORS, c.Part.GATEWAY)
    while True:
        show(app.state.app_state)
        await asyncio.sleep(SHOW_SECONDS)
