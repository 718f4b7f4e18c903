"""Webhooks on the wire: the event that is sent and how it is signed, as the official SDKs verify it
(standard-webhooks). Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

from pydantic_core import to_json
from typing_extensions import TypedDict

from jobs.webhooks import SECRET_PREFIX, Delivery
from serve_app.wire.fields import Seconds


class EventBody(TypedDict):
    """The event, as OpenAI's."""

    id: str
    object: Literal["event"]
    created_at: Seconds
    type: str
    data: dict[str, str]


def event_body(delivery: Delivery) -> EventBody:
    """What the endpoint gets."""
    return {
        "id": delivery.event,
        "object": "event",
        "created_at": int(delivery.created_at),
        "type": delivery.type,
        "data": dict(delivery.data),
    }


def signed(delivery: Delivery, secrets: Sequence[str], at: float) -> tuple[bytes, dict[str, str]]:
    """The body, and the headers that vouch for it: a signature for each secret. at: seconds since
    the epoch, of this try."""
    body, timestamp = to_json(event_body(delivery)), str(int(at))
    text = b".".join((delivery.event.encode(), timestamp.encode(), body))
    headers = {
        "content-type": "application/json",
        "webhook-id": delivery.event,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, text) for secret in secrets),
    }
    return body, headers


def _signature(secret: str, text: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return f"v1,{base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()}"
