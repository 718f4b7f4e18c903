"""OpenAI's webhook endpoints as JSON, with what we say of them and of their deliveries. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from jobs.webhooks import EVENT_TYPES, Delivery, DeliveryState, EndpointChange, WebhookEndpoint
from serve_app.config.webhooks import MOST_URL_CHARACTERS
from serve_app.wire.fields import Count, Seconds
from serve_app.wire.requests import RequestBody

MOST_LISTED = 100
_HINT_CHARACTERS = 4


def _a_type(text: str) -> str:
    if text not in EVENT_TYPES:
        raise ValueError(f"{text!r} is no event that is told here; GET /v1/webhook_event_types")
    return text


EventType = Annotated[
    str, AfterValidator(_a_type), Field(json_schema_extra={"enum": [*EVENT_TYPES]})
]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]
EndpointName = Annotated[str, Field(min_length=1, max_length=256)]
EndpointUrl = Annotated[str, Field(max_length=MOST_URL_CHARACTERS)]


class NewEndpointBody(RequestBody):
    """The body of POST /v1/webhook_endpoints."""

    name: EndpointName
    url: EndpointUrl
    event_types: EventTypes


class ChangedEndpointBody(RequestBody):
    """The body of POST /v1/webhook_endpoints/{id}; what is left out stays."""

    name: EndpointName | None = None
    url: EndpointUrl | None = None
    event_types: EventTypes | None = None
    enabled: bool | None = None

    def change(self) -> EndpointChange:
        """As the ledger takes it."""
        types = None if self.event_types is None else in_order(self.event_types)
        return EndpointChange(name=self.name, url=self.url, event_types=types, enabled=self.enabled)


class RotationBody(RequestBody):
    """The body of POST /v1/webhook_endpoints/{id}/rotate_secret."""

    keep_old_secret_active_for_24_hours: bool = False


class EndpointTestBody(RequestBody):
    """The body of POST /v1/webhook_endpoints/{id}/test."""

    event_type: EventType


class RedeliveryBody(RequestBody):
    """The body of POST /v1/webhook_endpoints/{id}/redeliver."""

    event_id: Annotated[str, Field(pattern="^evt_[0-9a-f]{32}$")] | None = None


class WebhookEndpointBody(TypedDict):
    """The endpoint."""

    id: str
    object: Literal["webhook_endpoint"]
    created_at: Seconds
    updated_at: Seconds
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    enabled: bool
    disabled_reason: str | None
    failing_since: Seconds | None


class EndpointWithSecretBody(WebhookEndpointBody):
    """The endpoint, and its signing secret, which is shown this once."""

    signing_secret: str


class EndpointPageEnds(TypedDict, total=False):
    first_id: str
    last_id: str


class WebhookEndpointsBody(EndpointPageEnds):
    """The endpoints, newest first."""

    object: Literal["list"]
    data: list[WebhookEndpointBody]
    has_more: bool


class DeletedEndpointBody(TypedDict):
    """The endpoint has been deleted."""

    id: str
    object: Literal["webhook_endpoint.deleted"]
    deleted: bool


class EventTypesBody(TypedDict):
    """The types of events that are told."""

    object: Literal["list"]
    data: list[str]


class EndpointTestedBody(TypedDict):
    """What the endpoint answered."""

    object: Literal["webhook_endpoint.test"]
    webhook_endpoint_id: str
    event_type: str
    status_code: Count
    success: Literal[True]


class RedeliveredBody(TypedDict):
    """How many deliveries are made again."""

    object: Literal["webhook_endpoint.redelivery"]
    webhook_endpoint_id: str
    deliveries: Count


class DeliveryBody(TypedDict):
    id: str
    object: Literal["webhook_delivery"]
    webhook_endpoint_id: str
    type: str
    state: Annotated[str, Field(json_schema_extra={"enum": [*DeliveryState]})]
    attempts: Count
    created_at: Seconds
    next_attempt_at: Seconds | None
    ended_at: Seconds | None
    status_code: Count | None
    error: str | None


class DeliveriesBody(EndpointPageEnds):
    """The deliveries, newest first; the id of each is that of its event."""

    object: Literal["list"]
    data: list[DeliveryBody]
    has_more: bool


def in_order(types: Sequence[str]) -> tuple[str, ...]:
    """Each once, as EVENT_TYPES has them."""
    return tuple(one for one in EVENT_TYPES if one in types)


def endpoint_body(endpoint: WebhookEndpoint) -> WebhookEndpointBody:
    """Of its secret no more than its end."""
    failing = endpoint.failing_since
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "created_at": int(endpoint.created_at),
        "updated_at": int(endpoint.updated_at),
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": [*endpoint.event_types],
        "signing_secret_hint": f"whsec_...{endpoint.secret[-_HINT_CHARACTERS:]}",
        "enabled": endpoint.disabled_at is None,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": None if failing is None else int(failing),
    }


def with_secret(endpoint: WebhookEndpoint) -> EndpointWithSecretBody:
    """The answer to what has made the secret."""
    return {**endpoint_body(endpoint), "signing_secret": endpoint.secret}


def endpoints_body(found: Sequence[WebhookEndpoint], limit: int) -> WebhookEndpointsBody:
    """A page of `limit` at most; when one more was found, the page says so."""
    page = [endpoint_body(one) for one in found[:limit]]
    ends = _ends([one["id"] for one in page])
    return {"object": "list", "data": page, **ends, "has_more": len(found) > len(page)}


def deliveries_body(found: Sequence[Delivery], limit: int) -> DeliveriesBody:
    """As `endpoints_body`."""
    page = [_delivery_body(one) for one in found[:limit]]
    ends = _ends([one["id"] for one in page])
    return {"object": "list", "data": page, **ends, "has_more": len(found) > len(page)}


def _ends(ids: Sequence[str]) -> EndpointPageEnds:
    return {"first_id": ids[0], "last_id": ids[-1]} if ids else {}


def _delivery_body(delivery: Delivery) -> DeliveryBody:
    ended, waiting = delivery.ended_at, delivery.state is DeliveryState.WAITING
    return {
        "id": delivery.event,
        "object": "webhook_delivery",
        "webhook_endpoint_id": delivery.endpoint,
        "type": delivery.type,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": int(delivery.created_at),
        "next_attempt_at": int(delivery.due_at) if waiting else None,
        "ended_at": None if ended is None else int(ended),
        "status_code": delivery.status_code,
        "error": delivery.error,
    }
