"""Where a tenant wants to be told: OpenAI's webhook endpoints, and our deliveries to them."""

from __future__ import annotations

import re
import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from jobs.request import Tenant
from jobs.webhooks import (
    EVENT_TYPES,
    Delivery,
    DeliveryState,
    EndpointChange,
    WebhookEndpoint,
    new_endpoint,
    new_secret,
    sample_event,
)
from serve_app.orders.app_state import app_state_of
from serve_app.orders.bodies import read_body
from serve_app.orders.callers import ROWS_PER_POLL, charge_rows, limit_of, poller_of, stay_open
from serve_app.orders.responses import json_response
from serve_app.webhooks.sending import BadUrl, check_url, send
from serve_app.wire.errors import InvalidRequest, NotFound
from serve_app.wire.json_body import read_json
from serve_app.wire.operations import answer, link, operation, query
from serve_app.wire.requests import parse_body
from serve_app.wire.webhook_endpoints import (
    MOST_LISTED,
    ChangedEndpointBody,
    DeletedEndpointBody,
    DeliveriesBody,
    EndpointTestBody,
    EndpointTestedBody,
    EndpointWithSecretBody,
    EventTypesBody,
    NewEndpointBody,
    RedeliveredBody,
    RedeliveryBody,
    RotationBody,
    WebhookEndpointBody,
    WebhookEndpointsBody,
    deliveries_body,
    endpoint_body,
    endpoints_body,
    in_order,
    with_secret,
)
from serve_app.wire.webhooks import signed

router = APIRouter()

AT = "/v1/webhook_endpoints/{webhook_endpoint_id}"
TEST_POLLS = 10
"""As many polls as a test of an endpoint counts for: it sends something to a server of others."""
_EVENT_ID = re.compile(r"evt_[0-9a-f]{32}")
_ENDPOINT_ID = re.compile(r"we_[0-9a-f]{24}")
REFUSALS = (400, 408, 413, 415)
LIMIT = query("limit", {"type": "integer", "minimum": 1, "maximum": MOST_LISTED})
MADE = {
    name: link(to, webhook_endpoint_id="$response.body#/id")
    for name, to in (
        ("endpoint", "getWebhookEndpoint"),
        ("change", "changeWebhookEndpoint"),
        ("deliveries", "listWebhookDeliveries"),
        ("delete", "deleteWebhookEndpoint"),
    )
}


@router.post("/v1/webhook_endpoints")
@operation("createWebhookEndpoint", {200: answer(EndpointWithSecretBody, **MADE)}, *REFUSALS)
async def create(request: Request) -> Response:
    """Make an endpoint; the answer is the only one that shows its signing secret."""
    tenant = await poller_of(request)
    state = app_state_of(request)
    said = parse_body(NewEndpointBody, await _fields(request))
    _check_url(request, said.url)
    made = new_endpoint(tenant.id, said.name, said.url, in_order(said.event_types))
    stored = await state.ledger.add_endpoint(made, state.config.webhooks.endpoints)
    return json_response(with_secret(stored))


@router.get("/v1/webhook_endpoints")
@operation(
    "listWebhookEndpoints",
    {200: answer(WebhookEndpointsBody)},
    400,
    parameters=[LIMIT, query("after", {"type": "string", "pattern": "^we_[0-9a-f]{24}$"})],
)
async def listing(request: Request) -> Response:
    """Your endpoints, newest first."""
    tenant = await poller_of(request)
    limit = limit_of(request, 20, MOST_LISTED)
    after = _after(request, _ENDPOINT_ID, "a webhook endpoint")
    found = await app_state_of(request).ledger.endpoints(tenant.id, limit + 1, after)
    charge_rows(request, tenant, len(found))
    return json_response(endpoints_body(found, limit))


@router.get("/v1/webhook_event_types")
@operation("listWebhookEventTypes", {200: answer(EventTypesBody)})
async def event_types(request: Request) -> Response:
    """The types of events that an endpoint may choose."""
    await poller_of(request)
    said: EventTypesBody = {"object": "list", "data": [*EVENT_TYPES]}
    return json_response(said)


@router.get(AT)
@operation("getWebhookEndpoint", {200: answer(WebhookEndpointBody)}, 404)
async def show(request: Request, webhook_endpoint_id: str) -> Response:
    """One endpoint."""
    endpoint = await _own(request, await poller_of(request), webhook_endpoint_id)
    return json_response(endpoint_body(endpoint))


@router.post(AT)
@operation("changeWebhookEndpoint", {200: answer(WebhookEndpointBody)}, *REFUSALS, 404)
async def change(request: Request, webhook_endpoint_id: str) -> Response:
    """Change an endpoint, or enable one that was disabled: what waits for it is delivered then."""
    tenant = await poller_of(request)
    said = parse_body(ChangedEndpointBody, await _fields(request))
    if said.url is not None:
        _check_url(request, said.url)
    changed = await _changed(request, tenant, webhook_endpoint_id, said.change())
    return json_response(endpoint_body(changed))


@router.delete(AT)
@operation("deleteWebhookEndpoint", {200: answer(DeletedEndpointBody)}, 404)
async def delete(request: Request, webhook_endpoint_id: str) -> Response:
    """Delete an endpoint, and with it what waits for it."""
    tenant = await poller_of(request)
    endpoint = await _own(request, tenant, webhook_endpoint_id)
    await app_state_of(request).ledger.drop_endpoint(tenant.id, endpoint.id)
    gone: DeletedEndpointBody = {
        "id": endpoint.id,
        "object": "webhook_endpoint.deleted",
        "deleted": True,
    }
    return json_response(gone)


@router.post(AT + "/rotate_secret")
@operation("rotateWebhookSecret", {200: answer(EndpointWithSecretBody)}, *REFUSALS, 404)
async def rotate(request: Request, webhook_endpoint_id: str) -> Response:
    """Put another signing secret in the place of an endpoint's, and show it, once."""
    tenant = await poller_of(request)
    said = parse_body(RotationBody, await _fields(request))
    keep = said.keep_old_secret_active_for_24_hours
    change = EndpointChange(secret=new_secret(), keep_old_secret=keep)
    return json_response(with_secret(await _changed(request, tenant, webhook_endpoint_id, change)))


@router.post(AT + "/test")
@operation("testWebhookEndpoint", {200: answer(EndpointTestedBody)}, *REFUSALS, 404)
async def test(request: Request, webhook_endpoint_id: str) -> Response:
    """Send a sample event to an endpoint now, and say what it answered."""
    tenant = await poller_of(request)
    said = parse_body(EndpointTestBody, await _fields(request))
    endpoint = await _own(request, tenant, webhook_endpoint_id)
    charge_rows(request, tenant, ROWS_PER_POLL * TEST_POLLS)
    stay_open(request, tenant.id)
    now, event = time.time(), sample_event(tenant.id, said.event_type)
    sample = Delivery(
        endpoint=endpoint.id,
        event=event.id,
        type=event.type,
        data=event.data,
        created_at=now,
        state=DeliveryState.WAITING,
        attempts=1,
        due_at=now,
    )
    section = app_state_of(request).config.webhooks
    sent = await send(endpoint.url, *signed(sample, endpoint.secrets(now), now), section)
    if sent.status is None:
        message = f"The endpoint could not be reached: {sent.error}."
        raise InvalidRequest(message, code="webhook_unreachable")
    result: EndpointTestedBody = {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": endpoint.id,
        "event_type": said.event_type,
        "status_code": sent.status,
        "success": True,
    }
    return json_response(result)


@router.get(AT + "/deliveries")
@operation(
    "listWebhookDeliveries",
    {200: answer(DeliveriesBody)},
    400,
    404,
    parameters=[
        LIMIT,
        query("after", {"type": "string", "pattern": "^evt_[0-9a-f]{32}$"}),
        query("state", {"type": "string", "enum": [*DeliveryState]}),
    ],
)
async def deliveries(request: Request, webhook_endpoint_id: str) -> Response:
    """What was delivered to an endpoint, waits for it, or is given up (`state=dead`)."""
    tenant = await poller_of(request)
    endpoint = await _own(request, tenant, webhook_endpoint_id)
    limit = limit_of(request, 20, MOST_LISTED)
    after, state = _after(request, _EVENT_ID, "an event"), request.query_params.get("state")
    if state is not None and state not in [*DeliveryState]:
        message = f"'state' must be one of {', '.join(DeliveryState)}."
        raise InvalidRequest(message, param="state")
    wanted = None if state is None else DeliveryState(state)
    ledger = app_state_of(request).ledger
    found = await ledger.deliveries(tenant.id, endpoint.id, wanted, limit + 1, after)
    charge_rows(request, tenant, len(found))
    return json_response(deliveries_body(found, limit))


@router.post(AT + "/redeliver")
@operation("redeliverWebhooks", {200: answer(RedeliveredBody)}, *REFUSALS, 404)
async def redeliver(request: Request, webhook_endpoint_id: str) -> Response:
    """Deliver one event again, or every one that was given up."""
    tenant = await poller_of(request)
    said = parse_body(RedeliveryBody, await _fields(request))
    endpoint = await _own(request, tenant, webhook_endpoint_id)
    count = await app_state_of(request).ledger.redeliver(tenant.id, endpoint.id, said.event_id)
    if said.event_id is not None and not count:
        message = "There is no such delivery."
        raise NotFound(message, param="event_id", code="webhook_delivery_not_found")
    result: RedeliveredBody = {
        "object": "webhook_endpoint.redelivery",
        "webhook_endpoint_id": endpoint.id,
        "deliveries": count,
    }
    return json_response(result)


async def _fields(request: Request) -> dict[str, object]:
    """The JSON body; none is an empty one. Raises InvalidRequest."""
    limits = app_state_of(request).config.limits
    raw = await read_body(request, limits)
    return read_json(raw, limits.body_bytes) if raw else {}


def _check_url(request: Request, url: str) -> None:
    try:
        check_url(url, app_state_of(request).config.webhooks)
    except BadUrl as problem:
        raise InvalidRequest(f"Invalid value for 'url': {problem}.", param="url") from None


def _after(request: Request, pattern: re.Pattern[str], what: str) -> str | None:
    after = request.query_params.get("after")
    if after is not None and not pattern.fullmatch(after):
        raise InvalidRequest(f"'after' must be the id of {what}.", param="after")
    return after


async def _own(request: Request, tenant: Tenant, endpoint_id: str) -> WebhookEndpoint:
    """Raises NotFound, for one of another tenant, too."""
    endpoint = None
    if _ENDPOINT_ID.fullmatch(endpoint_id):
        endpoint = await app_state_of(request).ledger.endpoint(tenant.id, endpoint_id)
    if endpoint is None:
        raise _no_endpoint()
    return endpoint


async def _changed(
    request: Request, tenant: Tenant, endpoint_id: str, change: EndpointChange
) -> WebhookEndpoint:
    changed = None
    if _ENDPOINT_ID.fullmatch(endpoint_id):
        ledger = app_state_of(request).ledger
        changed = await ledger.change_endpoint(tenant.id, endpoint_id, change)
    if changed is None:
        raise _no_endpoint()
    return changed


def _no_endpoint() -> NotFound:
    message = "There is no such webhook endpoint."
    return NotFound(message, code="webhook_endpoint_not_found")
