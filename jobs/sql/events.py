"""What webhooks tell, written in the transaction that settles it: all of it, or none."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, text

from jobs.db.compiled import send
from jobs.webhooks import WebhookEvent

# To each endpoint of the tenant that has chosen such events; an event that is written again is one.
_WRITE = text("""insert into webhook_deliveries (endpoint, event, tenant, type, data, created_at,
        since, state, attempts, due_at)
    select e.id, :event, e.tenant, :type, :data, :now, :now, 'waiting', 0, :now
    from webhook_endpoints e
    where e.tenant = :tenant and e.disabled_at is null and e.event_types like :chosen
    on conflict (endpoint, event) do nothing""")


def write_events(connection: Connection, events: Sequence[WebhookEvent], now: float) -> None:
    """The deliveries of these events to their tenants' endpoints. Call it in the transaction that
    makes them true. One statement; none without events."""
    if events:
        send(connection, (_WRITE, [_row(event, now) for event in events]))


def _row(event: WebhookEvent, now: float) -> dict[str, object]:
    return {
        "event": event.id,
        "tenant": event.tenant,
        "type": event.type,
        "data": json.dumps(dict(event.data)),
        "now": now,
        "chosen": f"% {event.type} %",
    }
