"""Whether a new order would be accepted, asked before its body is read: by reads alone, so that it
is exact only in `submit`. Of SqlLedger."""

from __future__ import annotations

from sqlalchemy import Connection

from jobs.db import statements as sql
from jobs.ledger_errors import LedgerError, NotYetOpen, QueueFull, QuotaExceeded
from jobs.request import Enquiry
from jobs.sql.reattaching import finds_a_job
from jobs.sql.submitting import is_newcomer, usage_of
from jobs.tiers import QuotaDays, Tier


def check_admission(
    connection: Connection, enquiry: Enquiry, tier: Tier, days: QuotaDays, now: float
) -> None:
    """Raises NotYetOpen; and QuotaExceeded or QueueFull, unless it may be a retry of a job."""
    tenant = enquiry.tenant
    if not tier.open_to(tenant.id):
        raise NotYetOpen(tenant.tier, tier.open_percent)
    if not tier.open_to_newcomer(tenant.id) and is_newcomer(connection, tenant):
        raise NotYetOpen(tenant.tier, tier.newcomers_percent)
    refusal = _over_quota(connection, enquiry, tier, days, now) or _queue_full(
        connection, enquiry, tier
    )
    if refusal is not None and not _may_rejoin(connection, enquiry, now):
        raise refusal


def _over_quota(
    connection: Connection, enquiry: Enquiry, tier: Tier, days: QuotaDays, now: float
) -> LedgerError | None:
    if tier.images_per_day is None:
        return None
    usage = usage_of(connection, enquiry.tenant, tier, days, now)
    over = usage.used + enquiry.images > tier.images_per_day
    return QuotaExceeded(enquiry.images, usage) if over else None


def _queue_full(connection: Connection, enquiry: Enquiry, tier: Tier) -> LedgerError | None:
    if tier.queued_jobs is None or enquiry.lane is None:
        return None
    where = {"tenant": enquiry.tenant.id, "lane": enquiry.lane}
    last = connection.execute(sql.LAST_ALLOWED, {**where, "limit": tier.queued_jobs}).first()
    if last is None:
        return None
    return QueueFull(tier.queued_jobs, str(connection.execute(sql.FIRST_WAITING, where).scalar()))


def _may_rejoin(connection: Connection, enquiry: Enquiry, now: float) -> bool:
    """As far as is known. A retry without a key is known by its body."""
    if enquiry.key is None and (not enquiry.retry or enquiry.body_hash is None):
        return enquiry.retry
    return finds_a_job(connection, enquiry, now)
