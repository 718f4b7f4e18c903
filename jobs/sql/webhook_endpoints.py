"""Endpoints of webhooks. Part of SqlLedger."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, text

from jobs.db.compiled import locking
from jobs.db.errors import again_if_overtaken
from jobs.sql.verbs import SqlVerbs
from jobs.webhooks import OLD_SECRET_SECONDS, EndpointChange, TooManyEndpoints, WebhookEndpoint

_ENDPOINT = """id, tenant, name, url, event_types, created_at, updated_at, secret, old_secret,
    old_secret_until, failing_since, disabled_at, disabled_reason"""
_NEW = text(f"""insert into webhook_endpoints ({_ENDPOINT}) values (:id, :tenant, :name, :url,
    :event_types, :created_at, :updated_at, :secret, :old_secret, :old_secret_until,
    :failing_since, :disabled_at, :disabled_reason)""")
# On PostgreSQL, so that the number of a tenant's endpoints is exact.
_LOCK_TENANT = text("select pg_advisory_xact_lock(hashtextextended(:tenant, 8))")
_COUNT = text("select count(*) from webhook_endpoints where tenant = :tenant")
_OWN = text(f"select {_ENDPOINT} from webhook_endpoints where tenant = :tenant and id = :id")
_LOCK_OWN = locking(f"{_OWN.text} for update")
_BY_ID = text(f"select {_ENDPOINT} from webhook_endpoints where id = :id and disabled_at is null")
_NEWEST_FIRST = "order by created_at desc, id desc limit :limit"
_BEHIND = "(created_at, id) < (select created_at, id from webhook_endpoints where id = :after)"
_LISTS = {
    (False, False): text(f"select {_ENDPOINT} from webhook_endpoints {_NEWEST_FIRST}"),
    (False, True): text(f"""select {_ENDPOINT} from webhook_endpoints where {_BEHIND}
        {_NEWEST_FIRST}"""),
    (True, False): text(f"""select {_ENDPOINT} from webhook_endpoints where tenant = :tenant
        {_NEWEST_FIRST}"""),
    (True, True): text(f"""select {_ENDPOINT} from webhook_endpoints
        where tenant = :tenant and {_BEHIND} {_NEWEST_FIRST}"""),
}
_CHANGE = text("""update webhook_endpoints set name = :name, url = :url,
        event_types = :event_types, updated_at = :updated_at, secret = :secret,
        old_secret = :old_secret, old_secret_until = :old_secret_until,
        failing_since = :failing_since, disabled_at = :disabled_at,
        disabled_reason = :disabled_reason
    where id = :id""")
_DROP = text("delete from webhook_endpoints where tenant = :tenant and id = :id")
_DROP_DELIVERIES = text("delete from webhook_deliveries where endpoint = :id")


class SqlWebhookEndpoints(SqlVerbs):
    """See WebhookTable."""

    @again_if_overtaken
    def add_endpoint(self, endpoint: WebhookEndpoint, most: int) -> WebhookEndpoint:
        with self._write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(_LOCK_TENANT, {"tenant": endpoint.tenant})
            count = connection.execute(_COUNT, {"tenant": endpoint.tenant}).scalar_one()
            if count >= most:
                raise TooManyEndpoints(most)
            now = self._now(connection)
            stored = replace(endpoint, created_at=now, updated_at=now)
            connection.execute(_NEW, _endpoint_row(stored))
            return stored

    def endpoint(self, tenant: str, endpoint_id: str) -> WebhookEndpoint | None:
        with self._read() as connection:
            row = connection.execute(_OWN, {"tenant": tenant, "id": endpoint_id}).first()
            return None if row is None else _endpoint(row)

    def endpoints(
        self, tenant: str | None, limit: int, after: str | None = None
    ) -> list[WebhookEndpoint]:
        asked = {"tenant": tenant, "limit": limit, "after": after}
        given = {name: value for name, value in asked.items() if value is not None}
        with self._read() as connection:
            rows = connection.execute(_LISTS[tenant is not None, after is not None], given)
            return [_endpoint(row) for row in rows]

    @again_if_overtaken
    def change_endpoint(
        self, tenant: str, endpoint_id: str, change: EndpointChange
    ) -> WebhookEndpoint | None:
        with self._write() as connection:
            row = connection.execute(_LOCK_OWN, {"tenant": tenant, "id": endpoint_id}).first()
            if row is None:
                return None
            before, now = _endpoint(row), self._now(connection)
            after = _changed(before, change, now)
            if after != before:
                after = replace(after, updated_at=now)
                connection.execute(_CHANGE, _endpoint_row(after))
            return after

    @again_if_overtaken
    def drop_endpoint(self, tenant: str, endpoint_id: str) -> bool:
        with self._write() as connection:
            if not connection.execute(_DROP, {"tenant": tenant, "id": endpoint_id}).rowcount:
                return False
            connection.execute(_DROP_DELIVERIES, {"id": endpoint_id})
            return True


def _changed(before: WebhookEndpoint, change: EndpointChange, now: float) -> WebhookEndpoint:
    after = replace(
        before,
        name=before.name if change.name is None else change.name,
        url=before.url if change.url is None else change.url,
        event_types=before.event_types if change.event_types is None else change.event_types,
    )
    if change.secret is not None:
        old = before.secret if change.keep_old_secret else None
        until = now + OLD_SECRET_SECONDS if change.keep_old_secret else 0.0
        after = replace(after, secret=change.secret, old_secret=old, old_secret_until=until)
    if change.enabled is True:
        after = replace(after, failing_since=None, disabled_at=None, disabled_reason=None)
    elif change.enabled is False and before.disabled_at is None:
        after = replace(after, disabled_at=now, disabled_reason="it was disabled by its owner")
    return after


def _endpoint_row(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {**asdict(endpoint), "event_types": f" {' '.join(endpoint.event_types)} "}


def _endpoint(row: Row[Any]) -> WebhookEndpoint:
    given = dict(row._mapping)
    return WebhookEndpoint(**{**given, "event_types": tuple(given["event_types"].split())})


def load_enabled(connection: Connection, endpoint_id: str) -> WebhookEndpoint | None:
    """Of any tenant; None when it is disabled, or forgotten."""
    row = connection.execute(_BY_ID, {"id": endpoint_id}).first()
    return None if row is None else _endpoint(row)
