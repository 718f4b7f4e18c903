"""Callers of the routes: authenticated, counted, and limited in how often they ask."""

from __future__ import annotations

import logging
import math
import re
import secrets
import time
from functools import lru_cache
from ipaddress import ip_network

from starlette.requests import Request

from jobs.request import Tenant
from serve_app.access.addresses import client_address, is_trusted
from serve_app.admission.cooldown import READS, cooldown
from serve_app.admission.tenants import ENDING
from serve_app.orders.app_state import AppState, app_state_of
from serve_app.wire.errors import (
    NO_RETRY,
    ApiError,
    ClientError,
    InvalidRequest,
    TooManyRequests,
    Unauthorized,
    too_many,
)
from serve_app.wire.requests import RequestContext, parse_options

log = logging.getLogger(__name__)

SEED_BITS = 53
"""Seeds that we choose ourselves stay below what a browser's numbers hold exactly."""
REFUSED_BYTES = 65_536
MOST_PER_REFUSAL = 8.0
"""An invalid order costs a token of `limits.refused_per_second`, and one more for so many bytes of
it; never so many that a tenant's other clients would wait for long."""
ROWS_PER_POLL = 16
"""Rows of jobs and images that one token of `limits.polls_per_second` reads."""


class OperatorRequired(ClientError):
    """Only keys and tokens with the role of an operator may ask for that."""

    status = 403
    code = "operator_required"


class TooManyBlocked(TooManyRequests):
    """Too many of your orders were blocked by the safety system. Nothing was accepted."""

    code = "too_many_blocked"
    headers = NO_RETRY


async def tenant_of(request: Request) -> Tenant:
    """The authenticated tenant. Raises Unauthorized, LedgerUnavailable, and TooManyRequests for an
    address that keeps asking without a valid key."""
    state = app_state_of(request)

    def suspect() -> bool:
        per_second = state.config.limits.unauthenticated_per_second
        return state.unauthenticated.wait(_address(request), per_second, time.monotonic()) > 0

    try:
        return await state.keyring.tenant(request.headers.get("authorization"), suspect)
    except Unauthorized:
        charge_unauthenticated(request)
        raise


async def poller_of(request: Request) -> Tenant:
    """The tenant of a request that orders nothing. Raises TooManyRequests, too."""
    tenant = await tenant_of(request)
    state = app_state_of(request)
    per_second = state.config.limits.polls_per_second
    wait = state.polls.take(tenant.id, per_second, time.monotonic())
    if wait:
        raise too_many("your account", per_second, wait, cooldown(wait, READS))
    return tenant


async def operator_of(request: Request) -> Tenant:
    """The operator that sent a request. Raises OperatorRequired for a tenant."""
    caller = await poller_of(request)
    if caller.role != "operator":
        raise OperatorRequired
    return caller


def charge_rows(request: Request, tenant: Tenant, rows: int) -> None:
    """Charge a poll for the rows that it has read: a long list costs as much as many jobs."""
    state = app_state_of(request)
    per_second = state.config.limits.polls_per_second
    state.polls.charge(tenant.id, per_second, time.monotonic(), rows / ROWS_PER_POLL)


async def orderer_of(request: Request) -> Tenant:
    """The tenant of an order. Raises TooManyRequests for one whose orders are refused too often, or
    blocked."""
    tenant = await tenant_of(request)
    state = app_state_of(request)
    per_second = state.config.limits.refused_per_second
    wait = state.invalid_orders.wait(tenant.id, per_second, time.monotonic())
    if wait:
        raise too_many("invalid orders of your account", per_second, wait)
    await _check_strikes(state, tenant)
    request.state.orderer = tenant.id
    return tenant


async def _check_strikes(state: AppState, tenant: Tenant) -> None:
    """Raises TooManyBlocked for a tenant that has to wait. Asks the ledger only where the config
    counts strikes."""
    rules = state.config.strikes.rules()
    if rules.blocks is None:
        return
    strikes = await state.ledger.strikes(tenant.id, rules.within_seconds)
    wait_seconds = math.ceil(rules.wait_seconds(strikes))
    if wait_seconds:
        raise TooManyBlocked(
            f"{strikes.count} of your orders were blocked by the safety system lately. Try again "
            f"in {wait_seconds} s.",
            headers={"retry-after": str(wait_seconds)},
        )


def charge_refusal(request: Request, problem: ApiError) -> None:
    """Charge the tenant of an order that was not valid; others cost nothing."""
    tenant = getattr(request.state, "orderer", None)
    if tenant is not None and problem.charged:
        state = app_state_of(request)
        per_second = state.config.limits.refused_per_second
        read_bytes = getattr(request.state, "read_bytes", 0)
        tokens = min(1 + read_bytes / REFUSED_BYTES, MOST_PER_REFUSAL)
        state.invalid_orders.charge(tenant, per_second, time.monotonic(), tokens)


def stay_open(request: Request, tenant: str) -> None:
    """Count the request as one that waits or streams, until it has been answered or its client
    has gone. Raises TooManyOpen."""
    state = app_state_of(request)
    state.open_requests.enter(tenant, state.config.limits.watchers)
    request.scope[ENDING].callback(state.open_requests.leave, tenant)


def charge_unauthenticated(request: Request) -> None:
    """Count a request that is about to be turned away. Raises TooManyRequests."""
    state = app_state_of(request)
    per_second = state.config.limits.unauthenticated_per_second
    wait = state.unauthenticated.take(_address(request), per_second, time.monotonic())
    if wait:
        raise too_many("requests without a valid key", per_second, wait)


def _address(request: Request) -> str:
    trusted = [ip_network(text) for text in app_state_of(request).config.gateway.trusted_proxies]
    peer = request.client.host if request.client else None
    forwarded_for = request.headers.getlist("x-forwarded-for")
    if forwarded_for and not is_trusted(peer, trusted):
        _say_untrusted(peer)
    return client_address(peer, forwarded_for, trusted)


@lru_cache(maxsize=1024)  # once for each peer
def _say_untrusted(peer: str | None) -> None:
    log.warning(
        "X-Forwarded-For from %s is not believed. If that is your proxy, name it in "
        "gateway.trusted_proxies: until then all its clients without a valid key share one limit",
        peer,
    )


def limit_of(request: Request, usual: int, most: int) -> int:
    """How many entries a list may have. Raises InvalidRequest."""
    limit = request.query_params.get("limit", str(usual))
    if not re.fullmatch(r"[0-9]{1,5}", limit) or not 1 <= int(limit) <= most:
        raise InvalidRequest(f"'limit' must be 1 to {most}.", param="limit")
    return int(limit)


def context_of(request: Request, tenant: Tenant) -> RequestContext:
    """What an order says besides its body. Raises InvalidRequest."""
    state, options = app_state_of(request), parse_options(request.headers)
    models = state.models.for_tenant(tenant.id)
    return RequestContext(options, tenant, state.config, models, secrets.randbits(SEED_BITS))
