"""From a line of a batch to a request: checked when the batch is accepted, and again when it is
fed, by what is served then."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import partial

from jobs.batches import BatchRecord
from jobs.request import ImageRequest
from serve_app.config.sections import LimitsSection
from serve_app.orders.app_state import AppState
from serve_app.orders.callers import SEED_BITS
from serve_app.orders.placing import edit_order, json_edit, plain_request
from serve_app.orders.sources import in_turn
from serve_app.wire import edits, requests
from serve_app.wire.batches import GENERATIONS, ParsedLine, in_body, parse_line
from serve_app.wire.errors import ApiError, InvalidRequest


def context_for(state: AppState, batch: BatchRecord) -> requests.RequestContext:
    """Of a line: its tenant's, with a seed for a line that names none."""
    models = state.models.for_tenant(batch.tenant.id)
    seed = secrets.randbits(SEED_BITS)
    return requests.RequestContext(
        requests.RequestOptions(), batch.tenant, state.config, models, seed
    )


def most_line_bytes(limits: LimitsSection, endpoint: str) -> int:
    """Of a line with its pictures: an edit may have one in it, further ones are files."""
    pictures = 0 if endpoint == GENERATIONS else limits.image_bytes * 4 // 3 + 4
    return limits.body_bytes + pictures


def checked_line(
    raw: bytes, batch: BatchRecord, context: requests.RequestContext
) -> tuple[ParsedLine, ImageRequest]:
    """What the line says, and its request but for pictures. Raises ApiError."""
    parsed = parse_line(raw, batch.wish.endpoint, context.config.limits.body_bytes)
    try:
        return parsed, _checked(parsed, batch, context)
    except ApiError as problem:
        raise in_body(problem) from None


def _checked(
    parsed: ParsedLine, batch: BatchRecord, context: requests.RequestContext
) -> ImageRequest:
    if batch.wish.endpoint == GENERATIONS:
        order = requests.generation_order(parsed.body, context)
    else:
        edit = json_edit(edits.edit_body(dict(parsed.body)))
        request = plain_request(edit, context.models.named(edit.body.model), context)
        order = requests.order_of(edit.body, request)
    if order.as_url and context.config.gateway.public_url is None:
        message = "Invalid value for 'response_format': this server has no public URL; b64_json."
        raise InvalidRequest(message, param="response_format", code="unsupported_value")
    return order.request


async def ordered_line(state: AppState, batch: BatchRecord, raw: bytes) -> ImageRequest:
    """The line as a job of this batch is ordered, at its predicted cost, its pictures stored.
    Raises ApiError, LedgerUnavailable, StoreUnavailable."""
    context = context_for(state, batch)
    parsed, request = checked_line(raw, batch, context)
    if batch.wish.endpoint != GENERATIONS:
        edit = json_edit(edits.edit_body(dict(parsed.body)))
        order = await in_turn(state, batch.tenant, partial(edit_order, state, context, edit))
        request = order.request
    return await state.prices.priced(
        replace(request, in_batch=True, watched=False, body_hash="", idempotency_key=None)
    )


def wants_url(parsed: ParsedLine) -> bool:
    """Whether the line asks for URLs of its pictures."""
    return parsed.body.get("response_format") == "url"
