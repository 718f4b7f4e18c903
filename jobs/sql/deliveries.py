"""Deliveries of webhooks: what is due, which gateway makes it, what came of it. Of SqlLedger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from jobs.db.compiled import locking
from jobs.db.errors import again_if_overtaken
from jobs.db.rows import storable
from jobs.policy.redelivery import DeliveryRules, DueEndpoint, is_over, next_try, shares
from jobs.sql.verbs import SqlVerbs
from jobs.sql.webhook_endpoints import load_enabled
from jobs.webhooks import (
    ClaimedDelivery,
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    WebhookEndpoint,
    WebhookEvent,
)

_FORGOTTEN_AT_ONCE = 1000
_LONGEST_ERROR = 300
"""Characters that are kept."""
_ENDPOINTS_AT_ONCE = 256
"""That a claim looks at."""

_DELIVERY = """endpoint, event, type, data, created_at, state, attempts, due_at, status_code,
    error, ended_at"""
_LISTED = """order by created_at desc, event desc limit :limit"""
_AFTER = """(created_at, event) < (select created_at, event from webhook_deliveries
    where endpoint = :id and event = :after)"""
_QUEUE = text("""insert into webhook_deliveries (endpoint, event, tenant, type, data, created_at,
        since, state, attempts, due_at)
    values (:endpoint, :event, :tenant, :type, :data, :now, :now, 'waiting', 0, :now)""")
# The attempts of one that waits are its fence, which a gateway may have.
_AGAIN = """update webhook_deliveries set since = :now, due_at = :now, ended_at = null,
        attempts = case when state = 'waiting' then attempts else 0 end, state = 'waiting'
    where tenant = :tenant and endpoint = :id and """
_REDELIVER_ONE = text(f"{_AGAIN} event = :event")
_REDELIVER_DEAD = text(f"{_AGAIN} state = 'dead'")
# Steps from endpoint to endpoint, because one may have very many that wait.
_DUE = text("""with recursive busy(endpoint) as (
        select min(endpoint) from webhook_deliveries where state = 'waiting'
        union all
        select (select min(endpoint) from webhook_deliveries
            where state = 'waiting' and endpoint > busy.endpoint)
        from busy where busy.endpoint is not null),
    first(endpoint, due_at) as (
        select endpoint, (select min(d.due_at) from webhook_deliveries d
            where d.endpoint = busy.endpoint and d.state = 'waiting')
        from busy where busy.endpoint is not null)
    select e.id, e.failing_since is not null as failing, first.due_at
    from first join webhook_endpoints e on e.id = first.endpoint
    where e.disabled_at is null and first.due_at <= :now
    order by first.due_at limit :limit""")
_FAILING = text("select id from webhook_endpoints where failing_since is not null")
_TAKE = locking(f"""with taken as materialized (select event as id from webhook_deliveries
        where endpoint = :id and state = 'waiting' and due_at <= :now
        order by due_at limit :limit for update skip locked)
    update webhook_deliveries set due_at = :until, attempts = attempts + 1
    where endpoint = :id and event in (select id from taken) and state = 'waiting'
    returning {_DELIVERY}""")
# attempts is the fence: whoever claimed it since has counted one more.
_SETTLE = text("""update webhook_deliveries set state = :state, due_at = :due_at,
        status_code = :status_code, error = :error, ended_at = :ended_at
    where endpoint = :endpoint and event = :event and attempts = :attempts
      and state = 'waiting'""")
_SINCE = text("select since from webhook_deliveries where endpoint = :endpoint and event = :event")
_RECOVERED = text("""update webhook_endpoints set failing_since = null
    where id = :id and failing_since is not null""")
_FAILED = text("""update webhook_endpoints set failing_since = coalesce(failing_since, :now)
    where id = :id returning failing_since""")
_DISABLE = text("""update webhook_endpoints set disabled_at = :now, disabled_reason = :reason
    where id = :id and disabled_at is null""")
_AGED = """select endpoint, event from webhook_deliveries
    where state <> 'waiting' and ended_at <= :before limit :limit"""
_STUCK = """select d.endpoint, d.event from webhook_endpoints e join webhook_deliveries d
    on d.endpoint = e.id and d.state = 'waiting' where e.disabled_at <= :before limit :limit"""
_OLD = tuple(
    (text(old), text(f"delete from webhook_deliveries where (endpoint, event) in ({old})"))
    for old in (_AGED, _STUCK)
)


class SqlDeliveries(SqlVerbs):
    """See WebhookTable."""

    def deliveries(
        self,
        tenant: str,
        endpoint_id: str,
        state: DeliveryState | None,
        limit: int,
        after: str | None = None,
    ) -> list[Delivery]:
        asked: dict[str, Any] = {"tenant": tenant, "id": endpoint_id, "limit": limit}
        where = "where tenant = :tenant and endpoint = :id"
        if state is not None:
            asked["state"] = state
            where += " and state = :state"
        if after is not None:
            asked["after"] = after
            where += f" and {_AFTER}"
        with self._read() as connection:
            found = text(f"select {_DELIVERY} from webhook_deliveries {where} {_LISTED}")
            return [_delivery(row) for row in connection.execute(found, asked)]

    @again_if_overtaken
    def redeliver(self, tenant: str, endpoint_id: str, event: str | None = None) -> int:
        with self._write() as connection:
            now = {"tenant": tenant, "id": endpoint_id, "now": self._now(connection)}
            if event is None:
                return connection.execute(_REDELIVER_DEAD, now).rowcount
            return connection.execute(_REDELIVER_ONE, {**now, "event": event}).rowcount

    @again_if_overtaken
    def queue_event(self, endpoint: WebhookEndpoint, event: WebhookEvent) -> None:
        with self._write() as connection:
            said = {"endpoint": endpoint.id, "event": event.id, "tenant": event.tenant}
            data = json.dumps(dict(event.data))
            now = self._now(connection)
            connection.execute(_QUEUE, {**said, "type": event.type, "data": data, "now": now})

    def overdue_deliveries(self) -> float | None:
        with self._read() as connection:
            now = self._now(connection)
            oldest = connection.execute(_DUE, {"now": now, "limit": 1}).first()
            return None if oldest is None else now - float(oldest.due_at)

    @again_if_overtaken
    def claim_deliveries(
        self, room: int, in_hand: Mapping[str, int], rules: DeliveryRules
    ) -> list[ClaimedDelivery]:
        with self._write(self._database.relaxed) as connection:
            now = self._now(connection)
            found = connection.execute(_DUE, {"now": now, "limit": _ENDPOINTS_AT_ONCE})
            due = [DueEndpoint(row.id, bool(row.failing)) for row in found]
            failing = frozenset(connection.execute(_FAILING).scalars()) if in_hand else frozenset()
            wanted = shares(due, room, in_hand, failing, rules.per_endpoint)
            return [
                one
                for endpoint_id, count in sorted(wanted.items())
                for one in _take(connection, endpoint_id, count, now, rules)
            ]

    @again_if_overtaken
    def settle_deliveries(
        self, attempts: Sequence[DeliveryAttempt], rules: DeliveryRules
    ) -> list[DeliveryState]:
        in_order = sorted(attempts, key=lambda one: _key(one.claimed.delivery))
        states = {}
        with self._write(self._database.relaxed) as connection:
            now = self._now(connection)
            for one in in_order:
                delivery = one.claimed.delivery
                row = _settled(one, _since(connection, delivery), now, rules)
                connection.execute(_SETTLE, row)
                states[_key(delivery)] = DeliveryState(row["state"])
            _judge_endpoints(connection, in_order, now, rules)
        return [states[_key(one.claimed.delivery)] for one in attempts]

    @again_if_overtaken
    def forget_deliveries(self, kept_seconds: float) -> bool:
        """With nothing to do it takes no write lock."""
        with self._read() as connection:
            asked = {"before": self._now(connection) - kept_seconds}
            due = [
                drop
                for find, drop in _OLD
                if connection.execute(find, {**asked, "limit": 1}).first() is not None
            ]
        if due:
            with self._write(self._database.relaxed) as connection:
                for drop in due:
                    connection.execute(drop, {**asked, "limit": _FORGOTTEN_AT_ONCE})
        return bool(due)


def _take(
    connection: Connection, endpoint_id: str, count: int, now: float, rules: DeliveryRules
) -> list[ClaimedDelivery]:
    endpoint = load_enabled(connection, endpoint_id)
    if endpoint is None:  # since it was found
        return []
    until = now + rules.lease_seconds
    taken = {"id": endpoint_id, "now": now, "until": until, "limit": count}
    rows = connection.execute(_TAKE, taken)
    return [ClaimedDelivery(_delivery(row), endpoint) for row in rows]


def _since(connection: Connection, delivery: Delivery) -> float:
    own = {"endpoint": delivery.endpoint, "event": delivery.event}
    since = connection.execute(_SINCE, own).scalar()
    return delivery.created_at if since is None else float(since)


def _settled(
    attempt: DeliveryAttempt, since: float, now: float, rules: DeliveryRules
) -> dict[str, Any]:
    delivery = attempt.claimed.delivery
    again = None
    if attempt.error is not None:
        again = next_try(delivery.attempts, now, since + rules.retry_seconds, attempt.jitter)
    state = DeliveryState.DEAD if attempt.error is not None else DeliveryState.DELIVERED
    error = None if attempt.error is None else storable(attempt.error)[:_LONGEST_ERROR]
    return {
        "endpoint": delivery.endpoint,
        "event": delivery.event,
        "attempts": delivery.attempts,
        "state": state if again is None else DeliveryState.WAITING,
        "due_at": now if again is None else again,
        "status_code": attempt.status_code,
        "error": error,
        "ended_at": now if again is None else None,
    }


def _judge_endpoints(
    connection: Connection, attempts: Iterable[DeliveryAttempt], now: float, rules: DeliveryRules
) -> None:
    """Whether each endpoint works, fails, or has failed for too long."""
    of: dict[str, list[DeliveryAttempt]] = {}
    for attempt in attempts:
        of.setdefault(attempt.claimed.endpoint.id, []).append(attempt)
    for endpoint, tried in of.items():
        if any(one.gone for one in tried):
            gone = {"id": endpoint, "now": now, "reason": "it answered 410 Gone"}
            connection.execute(_DISABLE, gone)
        elif any(one.error is None for one in tried):
            if tried[0].claimed.endpoint.failing_since is not None:
                connection.execute(_RECOVERED, {"id": endpoint})
        else:
            failing_since = connection.execute(_FAILED, {"id": endpoint, "now": now}).scalar()
            if is_over(failing_since, now, rules.disable_seconds):
                days = rules.disable_seconds / 86_400.0
                reason = f"its deliveries failed for {days:.3g} days"
                connection.execute(_DISABLE, {"id": endpoint, "now": now, "reason": reason})


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.endpoint, delivery.event


def _delivery(row: Row[Any]) -> Delivery:
    given = dict(row._mapping)
    state = DeliveryState(given["state"])
    return Delivery(**{**given, "data": json.loads(given["data"]), "state": state})
