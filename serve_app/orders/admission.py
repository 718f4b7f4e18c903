"""May this tenant order, or store a picture? Asked before a body is read, decoded or stored, and
again, exactly, by `submit`."""

from __future__ import annotations

from jobs.ledger import LedgerError, NotYetOpen, QueueFull, QuotaExceeded
from jobs.request import Enquiry, ImageRequest, Tenant
from jobs.sql.reattaching import may_reattach
from serve_app.orders.app_state import AppState
from serve_app.wire.errors import queue_is_full
from serve_app.wire.requests import Wishes
from serve_app.wire.temporary_refusal import temporary_refusal

REFUSALS = (QuotaExceeded, QueueFull, NotYetOpen)


async def check_order(
    state: AppState, tenant: Tenant, wishes: Wishes, read: ImageRequest | None = None
) -> None:
    """Raises what `submit` would raise for an order, unless it may be a retry. read: None before
    the body was."""
    await _check(
        state,
        Enquiry(
            tenant=tenant,
            images=1 if read is None else read.n,
            lane=state.config.lane,
            key=wishes.idempotency_key,
            retry=wishes.retry_count > 0,
            body_hash=None if read is None else read.body_hash,
            raw_hash="" if read is None else read.raw_hash,
        ),
    )


async def check_read(state: AppState, tenant: Tenant, wishes: Wishes, read: ImageRequest) -> None:
    """The same once the body was read, if that tells more: of several images, and of a retry."""
    if read.n > 1 or may_reattach(read):
        await check_order(state, tenant, wishes, read)


async def check_upload(state: AppState, tenant: Tenant) -> None:
    """Raises NotYetOpen, and QuotaExceeded: no picture could be made of it today."""
    await _check(state, Enquiry(tenant=tenant, lane=None))


async def _check(state: AppState, enquiry: Enquiry) -> None:
    try:
        await state.ledger.check_admission(enquiry)
    except REFUSALS as error:
        raise await refusal(state, error, enquiry.tenant, enquiry.images) from None


async def refusal(state: AppState, error: LedgerError, tenant: Tenant, n: int) -> Exception:
    """What the client is told of one of `REFUSALS` of an order for n images: when a place will be
    free, and where only temporary limits refuse it, when they ease."""
    state.refused.note(tenant.id)
    temporary = temporary_refusal(error, tenant.id, n, state.limits.of(tenant.tier))
    if temporary is not None:
        return temporary
    if not isinstance(error, QueueFull):
        return error
    outlook = await state.ledger.outlook(error.first_job_id)
    return queue_is_full(error, outlook.eta_seconds)
