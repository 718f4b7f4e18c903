"""What was used by which tenant, for operators; one of them in the shape of OpenAI's usage API."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from serve_app.orders.app_state import app_state_of
from serve_app.orders.callers import operator_of
from serve_app.orders.responses import json_response
from serve_app.wire.operations import OPERATOR, TEXT, Schema, answer, operation, query
from serve_app.wire.usage import (
    FILTERS,
    GROUPS,
    WIDTHS,
    TenantsBody,
    UsagePageBody,
    of_all,
    tenants_body,
    tenants_query,
    usage_body,
    usage_page,
)

router = APIRouter()

MOMENT: Schema = {"type": "integer", "minimum": 0}
COUNT: Schema = {"type": "integer", "minimum": 1}


@router.get("/v1/organization/usage/images")
@operation(
    "getUsage",
    {200: answer(UsagePageBody)},
    400,
    parameters=[
        {**query("start_time", MOMENT), "required": True},
        query("end_time", MOMENT),
        query("bucket_width", {"type": "string", "enum": [*WIDTHS]}),
        query("group_by", {"type": "array", "items": {"type": "string", "enum": [*GROUPS]}}),
        *(query(name, {"type": "array", "items": TEXT}) for name in FILTERS),
        query("limit", {**COUNT, "maximum": 168}),
        query("page", TEXT),
    ],
    security=OPERATOR,
)
async def usage(request: Request) -> Response:
    """Images by hour or day, tenant, model, size and source."""
    await operator_of(request)
    page = usage_page(_asked(request), time.time())
    found = await app_state_of(request).ledger.usage(page.query)
    return json_response(usage_body(page, found))


@router.get("/v1/operator/tenants")
@operation(
    "listOperatorTenants",
    {200: answer(TenantsBody)},
    400,
    parameters=[
        query("start_time", MOMENT),
        query("end_time", MOMENT),
        query("order", {"type": "string", "enum": ["gpu_seconds", "images"]}),
        query("model", TEXT),
        query("limit", {**COUNT, "maximum": 100}),
    ],
    security=OPERATOR,
)
async def tenants(request: Request) -> Response:
    """The tenants that used most, of the last day unless asked otherwise."""
    await operator_of(request)
    asked = tenants_query(_asked(request), time.time())
    ledger = app_state_of(request).ledger
    found = await ledger.usage(asked)
    return json_response(tenants_body(asked, found, await ledger.usage(of_all(asked))))


def _asked(request: Request) -> Mapping[str, Sequence[str]]:
    params = request.query_params
    return {name: params.getlist(name) for name in params}
