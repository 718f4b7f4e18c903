"""Orders on their way into the ledger: checked before a body is read, decoded or stored, and again,
exactly, when they are submitted."""

from __future__ import annotations

from jobs.ledger import Submission
from jobs.ledger_errors import LedgerError, NotYetOpen, QueueFull, QuotaExceeded
from jobs.request import Enquiry, ImageRequest, Tenant
from jobs.sql.reattaching import may_reattach
from serve_app.orders.app_state import AppState
from serve_app.wire.domain_errors import queue_is_full, temporary_refusal
from serve_app.wire.requests import RequestContext

REFUSALS = (QuotaExceeded, QueueFull, NotYetOpen)


async def check_order(
    state: AppState, context: RequestContext, read: ImageRequest | None = None
) -> None:
    """Raises what `submit` would raise for an order, unless it may be a retry. read: None before
    the body was, which says of several models whose queue it is for."""
    options, models = context.options, context.models.all
    if read is None and len(models) != 1:
        if options.idempotency_key is None and not options.retry_count:
            await check_upload(state, context.tenant)
        return
    await _check(
        state,
        Enquiry(
            tenant=context.tenant,
            images=1 if read is None else read.n,
            lane=models[0].queue if read is None else read.lane,
            key=options.idempotency_key,
            retry=options.retry_count > 0,
            body_hash=None if read is None else read.body_hash,
        ),
    )


async def check_read(state: AppState, context: RequestContext, read: ImageRequest) -> None:
    """The same once the body was read, if that says more: of several images, of a retry, and of one
    of several models."""
    if read.n > 1 or may_reattach(read) or len(context.models.all) > 1:
        await check_order(state, context, read)


async def check_upload(state: AppState, tenant: Tenant) -> None:
    """Raises NotYetOpen, and QuotaExceeded: no picture could be made of it today."""
    await _check(state, Enquiry(tenant=tenant, lane=None))


async def _check(state: AppState, enquiry: Enquiry) -> None:
    try:
        await state.ledger.check_admission(enquiry)
    except REFUSALS as error:
        raise await refusal(state, error, enquiry) from None


async def refusal(state: AppState, error: LedgerError, order: Enquiry) -> Exception:
    """The answer to one of `REFUSALS` of an order: when a place will be free, and where only
    temporary limits refuse it, when they ease."""
    tenant, queue = order.tenant, order.lane
    state.recent_refusals.note(tenant.id)
    limits = None if queue is None else state.limits.of(queue).of(tenant.tier)
    temporary = temporary_refusal(error, tenant.id, order.images, limits)
    if temporary is not None:
        return temporary
    if not isinstance(error, QueueFull):
        return error
    estimate = await state.ledger.estimate(error.first_job_id)
    return queue_is_full(error, estimate.eta_seconds)


async def submit(state: AppState, request: ImageRequest) -> Submission:
    """At its predicted cost, when its turn comes. Raises what Ledger.submit does, TooManyWaiting,
    QueueIsFull, which says when a place will be free, and the refusals of temporary limits."""
    request = await state.prices.priced(request)
    weight = state.config.tiers[request.tier].weight
    characters = len(request.prompt) + len(request.negative_prompt or "")
    try:
        async with state.admission_queue.turn(request.tenant, weight, characters):
            return await state.ledger.submit(request)
    except REFUSALS as error:
        tenant = Tenant(request.tenant, request.tier)
        order = Enquiry(tenant=tenant, lane=request.lane, images=request.n)
        raise await refusal(state, error, order) from None
