"""The tables of webhooks, endpoints and deliveries: part of the ledger's schema."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, Table, Text, text

from jobs.db.schema import metadata

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", Text, nullable=False),  # between spaces, one at each end, too
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("secret", Text, nullable=False),
    Column("old_secret", Text),
    Column("old_secret_until", Double, nullable=False),
    Column("failing_since", Double),
    Column("disabled_at", Double),
    Column("disabled_reason", Text),
    sqlite_with_rowid=False,
)
Index("webhook_endpoints_of_tenant", webhook_endpoints.c.tenant, webhook_endpoints.c.created_at)

# Written in the transaction that settles what they are about.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("event", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("data", Text, nullable=False),  # JSON object of texts
    Column("created_at", Double, nullable=False),
    Column("since", Double, nullable=False),  # when its tries began: then, or when it was asked for
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("status_code", Integer),
    Column("error", Text),
    Column("ended_at", Double),
    sqlite_with_rowid=False,
)
_waiting = text("state = 'waiting'")
_ended = text("state <> 'waiting'")
Index("webhook_deliveries_due", webhook_deliveries.c.endpoint, webhook_deliveries.c.due_at,
      sqlite_where=_waiting, postgresql_where=_waiting)  # fmt: skip
Index("webhook_deliveries_ended", webhook_deliveries.c.ended_at,
      sqlite_where=_ended, postgresql_where=_ended)  # fmt: skip
Index("webhook_deliveries_listed", webhook_deliveries.c.endpoint, webhook_deliveries.c.created_at,
      webhook_deliveries.c.event)  # fmt: skip
