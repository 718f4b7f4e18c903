"""A lane as its operators see it: now, and over time."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from jobs.announcements import AnnouncedModel
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.orders.callers import operator_of
from serve_app.orders.responses import json_response
from serve_app.wire.errors import InvalidRequest
from serve_app.wire.models import ServedModel
from serve_app.wire.operations import OPERATOR, TEXT, answer, operation, query
from serve_app.wire.overview import (
    MOST_POINTS,
    WINDOWS,
    HistoryBody,
    ModelReading,
    OverviewBody,
    history_body,
    overview_body,
)

router = APIRouter()

NEWEST_SECONDS = 30.0
"""What was read of decoders longer ago says nothing of now."""


@router.get("/v1/operator/overview")
@operation("getOverview", {200: answer(OverviewBody)}, security=OPERATOR)
async def overview(request: Request) -> Response:
    """Heat, waiting work, limits and decoders of every model, and the nodes. For operators."""
    await operator_of(request)
    state = app_state_of(request)
    announced = {
        one.announcement.queue: one for one in await state.ledger.models(state.config.lane)
    }
    readings = await asyncio.gather(
        *(_reading(state, one, announced.get(one.queue)) for one in state.models.all)
    )
    body = overview_body(
        state.config.lane,
        readings,
        state.config.tier_promises(),
        state.config.thresholds(),
        await state.cluster.now(),
    )
    return json_response(body)


async def _reading(
    state: AppState, model: ServedModel, announced: AnnouncedModel | None
) -> ModelReading:
    queue = model.queue
    heat, (level, _), history = await asyncio.gather(
        state.heats.of(queue).now(),
        state.ledger.limit_level(queue),
        state.ledger.history(queue, NEWEST_SECONDS, MOST_POINTS),
    )
    newest = history.samples[-1] if history.samples else None
    return ModelReading(model, announced, heat, level, state.limits.of(queue), newest)


@router.get("/v1/operator/history")
@operation(
    "getHistory",
    {200: answer(HistoryBody)},
    *(400, 404),
    parameters=[
        query("window", {"enum": [*WINDOWS], "default": "1h"}),
        query("model", TEXT),
    ],
    security=OPERATOR,
)
async def history(request: Request) -> Response:
    """Readings of the load, scaling decisions and limits over time. For operators."""
    await operator_of(request)
    state = app_state_of(request)
    window = request.query_params.get("window", "1h")
    if window not in WINDOWS:
        raise InvalidRequest(f"'window' must be one of {', '.join(WINDOWS)}.", param="window")
    name = request.query_params.get("model")
    models = state.models.all if name is None else (state.models.named(name),)
    found = await asyncio.gather(
        *(state.ledger.history(one.queue, float(WINDOWS[window]), MOST_POINTS) for one in models)
    )
    body = history_body(state.config.lane, window, list(zip(models, found, strict=True)))
    return json_response(body)
