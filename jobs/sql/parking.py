"""Tenants that render as much at once as their tier allows, or have as many jobs as a dispatcher
lets wait for a stage. Part of SqlLedger.

Their next jobs are parked: moved so far back in virtual time that no claim looks at them, and moved
back to their place when a job of the tenant ends. So a claim never walks past many jobs of
one tenant, and the others do not wait behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from jobs.db import statements as sql
from jobs.db.compiled import run
from jobs.policy.fair_queue import FairQueue

_BEYOND = 32  # read beyond what is claimed, for tenants that turn out to be at their limit
_READS = 4  # pages that a claim parks at most; the next one goes on


class ConcurrencyLimits:
    """How many images each tenant of limited tiers has under way, with those that a claim is about
    to take. sparing: tenants that get no more. Owned by one claim."""

    def __init__(self, fair_queue: FairQueue, sparing: frozenset[str] = frozenset()) -> None:
        self._sparing = sparing
        self._limits = {
            name: tier.concurrent_renders
            for name, tier in fair_queue.tiers.items()
            if tier.concurrent_renders is not None
        }
        self._under_way: Counter[str] = Counter()
        self._counted: set[str] = set()

    def heads(self, connection: Connection, where: Mapping[str, Any]) -> list[Row[Any]]:
        """The next jobs of a tier that its tenants may render now; the others are parked."""
        limit = self._limits.get(where["tier"])
        if limit is None and not self._sparing:
            return list(run(connection, sql.HEADS, where))
        heads: list[Row[Any]] = []
        page = {**where, "limit": where["limit"] + _BEYOND}
        for _ in range(_READS):
            rows: list[Row[Any]] = list(run(connection, sql.HEADS, page))
            if limit is not None:
                self._count(connection, {row.tenant for row in rows})
            before = self._under_way.copy()
            heads = [row for row in rows if self._fits(row, limit)]
            chosen = {row.id for row in heads}
            if parked := [row.id for row in rows if row.id not in chosen]:
                connection.execute(sql.PARK, {"ids": parked})
            if len(heads) >= where["limit"] or len(rows) < page["limit"]:
                break
            self._under_way = before  # the same ones come first again
        return heads[: where["limit"]]

    def _count(self, connection: Connection, tenants: set[str]) -> None:
        """What each of them has under way, once: thousands of others' leases are not read."""
        if unknown := sorted(tenants - self._counted):
            self._counted.update(unknown)
            for row in run(connection, sql.UNDER_WAY, {"ids": unknown}):
                self._under_way[row.tenant] += row.images

    def _fits(self, row: Row[Any], limit: int | None) -> bool:
        """A job larger than the limit runs alone."""
        if limit is None or row.tenant in self._sparing:
            return row.tenant not in self._sparing
        under_way = self._under_way[row.tenant]
        if under_way and under_way + row.images > limit:
            return False
        self._under_way[row.tenant] += row.images
        return True


def unpark(connection: Connection, tenants: Iterable[str]) -> None:
    """A job of each has ended: its next ones take their places again."""
    if rows := [{"tenant": tenant} for tenant in sorted(set(tenants))]:
        connection.execute(sql.UNPARK, rows)


def stray_tenants(connection: Connection) -> Sequence[str]:
    """Those with parked jobs and nothing under way, as when the last of their jobs ended while the
    next one was being parked."""
    return connection.execute(sql.STRAYS).scalars().all()
