"""May this tenant order, or store a picture? Asked before a body is read, decoded or stored, and
again, exactly, by `submit`."""

from __future__ import annotations

from jobs.ledger import LedgerError, NotYetOpen, QueueFull, QuotaExceeded
from jobs.request import Enquiry, ImageRequest, Tenant
from jobs.sql.reattaching import may_reattach
from serve_app.orders.app_state import Parts
from serve_app.wire.errors import queue_is_full
from serve_app.wire.requests import Wishes
from serve_app.wire.temporary_refusal import temporary_refusal

REFUSALS = (QuotaExceeded, QueueFull, NotYetOpen)


async def check_order(
    parts: Parts, tenant: Tenant, wishes: Wishes, read: ImageRequest | None = None
) -> None:
    """Raises what `submit` would raise for an order, unless it may be a retry. read: None before
    the body was."""
    await _check(
        parts,
        Enquiry(
            tenant=tenant,
            images=1 if read is None else read.n,
            lane=parts.config.lane,
            key=wishes.idempotency_key,
            retry=wishes.retry_count > 0,
            body_hash=None if read is None else read.body_hash,
            raw_hash="" if read is None else read.raw_hash,
        ),
    )


async def check_read(parts: Parts, tenant: Tenant, wishes: Wishes, read: ImageRequest) -> None:
    """The same once the body was read, if that tells more: of several images, and of a retry."""
    if read.n > 1 or may_reattach(read):
        await check_order(parts, tenant, wishes, read)


async def check_upload(parts: Parts, tenant: Tenant) -> None:
    """Raises NotYetOpen, and QuotaExceeded: no picture could be made of it today."""
    await _check(parts, Enquiry(tenant=tenant, lane=None))


async def _check(parts: Parts, enquiry: Enquiry) -> None:
    try:
        await parts.ledger.check_admission(enquiry)
    except REFUSALS as error:
        raise await refusal(parts, error, enquiry.tenant, enquiry.images) from None


async def refusal(parts: Parts, error: LedgerError, tenant: Tenant, n: int) -> Exception:
    """What the client is told of one of `REFUSALS` of an order for n images: when a place will be
    free, and where only temporary limits refuse it, when they ease."""
    parts.refused.note(tenant.id)
    temporary = temporary_refusal(error, tenant.id, n, parts.limits.of(tenant.tier))
    if temporary is not None:
        return temporary
    if not isinstance(error, QueueFull):
        return error
    outlook = await parts.ledger.outlook(error.first_job_id)
    return queue_is_full(error, outlook.eta_seconds)
